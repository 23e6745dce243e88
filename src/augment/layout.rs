//! What IN is, and what is in it: tiles by their paths, in an order that is the same on every
//! machine. `restain_data` reads it, as it does for training.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use restain_data::{
    Catalogue, Entry, Files, Format, Found, PassedOver, Patch, Reason, Selection, WildsTable,
    is_tar, unselected_samples,
};

use super::error::AugmentError;
use super::options::AugmentArgs;
use super::tile::{Tile, suffixed};
use super::{collisions, pattern};

/// A data set, listed.
pub(super) enum Input {
    Tiles(Tiles),
    Tars { tars: Vec<Tar>, passed_over: PassedOver },
}

/// Tiles that are files, or rows of files.
pub(super) struct Tiles {
    pub catalogue: Arc<Catalogue>,
    pub tiles: Vec<Tile>,
    /// Of a WILDS root, with the numbers of the rows that are selected.
    pub table: Option<(WildsTable, HashSet<u32>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Tar {
    pub path: PathBuf,
    /// Where it goes below OUT.
    pub target: PathBuf,
    /// Keys of samples that are left out on request.
    pub unselected: Arc<HashSet<String>>,
}

impl Input {
    /// Lists what IN holds.
    ///
    /// # Errors
    /// When it is no data set of this layout, or two tiles would be written to one place.
    pub(super) fn list(args: &AugmentArgs) -> Result<Self, AugmentError> {
        let paths = args.inputs.iter().map(|path| pattern::expand(path));
        let paths: Vec<PathBuf> = paths.collect::<Result<Vec<_>, _>>()?.concat();
        if let Some(missing) = paths.iter().find(|path| !path.exists()) {
            return Err(AugmentError::Use(format!(
                "IN is {}, and there is no such file or folder",
                missing.display()
            )));
        }
        let selection = args.job.selection();
        let found = match &paths[..] {
            [root] if root.is_dir() => Found::open(root, &selection).map_err(wrong)?,
            _ if matches!(selection.format, Format::Auto | Format::Webdataset) => {
                Found::Tars(Files::default())
            }
            _ => {
                let layout = format!("{:?}", selection.format).to_lowercase();
                let said = format!("--layout {layout} takes one folder as IN");
                return Err(AugmentError::Use(said));
            }
        };
        match found {
            Found::Images(catalogue) => {
                let tiles = Tiles::of(catalogue)?;
                let variants = args.ask.variants as usize;
                collisions::check_tiles(&tiles.tiles, variants, args.job.originals)?;
                Ok(Self::Tiles(tiles))
            }
            Found::Tars(_) => Self::tars(&paths, &selection),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Tiles(tiles) => match tiles.catalogue.format {
                Format::Wilds => "wilds",
                Format::Pcam => "pcam",
                Format::Epistr => "epistr",
                _ => "folders",
            },
            Self::Tars { .. } => "webdataset",
        }
    }

    /// What was not taken, by reason.
    pub(super) fn passed_over(&self) -> &PassedOver {
        match self {
            Self::Tiles(tiles) => &tiles.catalogue.passed_over,
            Self::Tars { passed_over, .. } => passed_over,
        }
    }

    fn tars(paths: &[PathBuf], selection: &Selection) -> Result<Self, AugmentError> {
        let (mut tars, mut passed_over) = (Vec::new(), PassedOver::default());
        for path in paths {
            if path.is_dir() {
                let found = Files::below(path).map_err(wrong)?;
                passed_over.merge(found.passed_over);
                found.images.iter().for_each(|image| passed_over.add(Reason::Image, image));
                tars.extend(found.tars.into_iter().map(|tar| (path.join(&tar), tar)));
            } else if is_tar(path) {
                let name = path.file_name().expect("a path with an ending has a name");
                tars.push((path.clone(), name.into()));
            } else {
                let path = path.display();
                return Err(AugmentError::Use(format!(
                    "{path} is neither a folder nor a .tar: unpack what is compressed"
                )));
            }
        }
        if tars.is_empty() {
            return Err(AugmentError::Use("IN holds no .tar".to_owned()));
        }
        tars.sort_by(|one, other| one.1.cmp(&other.1));
        if let Some([one, other]) = tars.windows(2).find(|pair| pair[0].1 == pair[1].1) {
            let (one, other) = (one.0.display(), other.0.display());
            return Err(AugmentError::Use(format!(
                "{one} and {other} would be written to the same file: give each job one of them"
            )));
        }
        let unselected = if selection.is_all() {
            vec![HashSet::new(); tars.len()]
        } else {
            unselected_samples(&tars, selection).map_err(wrong)?
        };
        let tars = tars.into_iter().zip(unselected).map(|((path, target), keys)| {
            keys.iter().for_each(|key| passed_over.add(Reason::NotSelected, &target.join(key)));
            Tar { path, target, unselected: Arc::new(keys) }
        });
        Ok(Self::Tars { tars: tars.collect(), passed_over })
    }
}

impl Tiles {
    fn of(catalogue: Catalogue) -> Result<Self, AugmentError> {
        let is_wilds = catalogue.format == Format::Wilds;
        let table = is_wilds.then(|| WildsTable::open(&catalogue.root)).transpose();
        let table = table.map_err(wrong)?;
        let numbers: HashSet<u32> = catalogue.entries.iter().map(|entry| entry.number).collect();
        let mut patches: Vec<Option<Patch>> = Vec::new();
        if let Some(table) = &table {
            for row in table.rows().map_err(wrong)? {
                let patch = row.map_err(wrong)?.patch;
                let is_selected = numbers.contains(&(patches.len() as u32));
                patches.push(is_selected.then_some(patch));
            }
        }
        let mut tile = |entry: &Entry| {
            let mut original = entry.path.clone();
            let patch = patches.get_mut(entry.number as usize).and_then(Option::take);
            if let Some(patch) = &patch {
                let ending = entry.path.extension().unwrap_or_default().to_string_lossy();
                original = suffixed(&patch.path(&patch.node), &format!(".{ending}"));
            } else if catalogue.format == Format::Pcam {
                original = of_row(&catalogue, entry);
            }
            let patch = patch.map(Box::new);
            Tile { source: entry.path.clone(), original, patch, place: entry.place }
        };
        let tiles = catalogue.entries.iter().map(&mut tile).collect();
        let table = table.map(|table| (table, numbers));
        Ok(Self { catalogue: Arc::new(catalogue), tiles, table })
    }
}

/// `train/tumor/000001.png`: folders as other loaders know splits and classes by.
fn of_row(catalogue: &Catalogue, entry: &Entry) -> PathBuf {
    let name = |names: &[String], number: Option<usize>| -> PathBuf {
        number.map(|number| names[number].clone().into()).unwrap_or_default()
    };
    let (split, label) =
        (name(&catalogue.splits, entry.split), name(&catalogue.labels, entry.label));
    let row = entry.path.file_name().map_or(Path::new(""), Path::new);
    split.join(label).join(suffixed(row, ".png"))
}

fn wrong(error: anyhow::Error) -> AugmentError {
    AugmentError::Use(format!("{error:#}"))
}
