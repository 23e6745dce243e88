//! What IN is, and what is in it: tiles by their paths, in an order that is the same on every
//! machine. `restain_data` reads it, as it does for training.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use restain_data::{
    Catalogue, Entry, Files, Format, Found, PassedOver, Patch, Reason, Selection, WildsTable,
    is_tar, unselected_samples,
};

use super::error::{AugmentError, unreadable};
use super::home::is_url;
use super::options::AugmentArgs;
use super::tile::{Tile, suffixed};
use super::{collisions, pattern};
use restain_store::{Location, Object, PlaceError, Remote};

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
    /// Where it lies: a path, or a URL.
    pub path: PathBuf,
    /// What it is read from, if not from that path.
    pub object: Option<(Remote, Object)>,
    /// Where it goes below OUT.
    pub target: PathBuf,
    /// Keys of samples that are left out on request.
    pub unselected: Arc<HashSet<String>>,
}

impl Tar {
    fn here(path: PathBuf, target: PathBuf) -> Self {
        Self { path, object: None, target, unselected: Arc::default() }
    }

    fn object(remote: &Remote, object: Object, target: PathBuf) -> Self {
        let path = remote.location().join(&object.name).to_string().into();
        Self { object: Some((remote.clone(), object)), ..Self::here(path, target) }
    }

    /// Bytes.
    pub(super) fn size(&self) -> Result<u64, AugmentError> {
        match &self.object {
            Some((_, object)) => Ok(object.size),
            None => Ok(self.path.metadata().map_err(unreadable(&self.path))?.len()),
        }
    }
}

impl Input {
    /// Lists what IN holds.
    ///
    /// # Errors
    /// When it is no data set of this layout, or two tiles would be written to one place.
    pub(super) fn list(args: &AugmentArgs) -> Result<Self, AugmentError> {
        let paths = args.inputs.iter().map(|path| pattern::expand(path));
        let paths: Vec<PathBuf> = paths.collect::<Result<Vec<_>, _>>()?.concat();
        if paths.iter().any(|path| is_url(path)) {
            check_selection_of_urls(&args.job.selection())?;
            return Self::tars(&paths, &args.job.selection());
        }
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
            if is_url(path) {
                tars.extend(objects_of(path, &mut passed_over)?);
            } else if path.is_dir() {
                let found = Files::below(path).map_err(wrong)?;
                passed_over.merge(found.passed_over);
                found.images.iter().for_each(|image| passed_over.add(Reason::Image, image));
                tars.extend(found.tars.into_iter().map(|tar| Tar::here(path.join(&tar), tar)));
            } else if is_tar(path) {
                let name = path.file_name().expect("a path with an ending has a name");
                tars.push(Tar::here(path.clone(), name.into()));
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
        tars.sort_by(|one, other| one.target.cmp(&other.target));
        if let Some([one, other]) = tars.windows(2).find(|pair| pair[0].target == pair[1].target) {
            let (one, other) = (one.path.display(), other.path.display());
            return Err(AugmentError::Use(format!(
                "{one} and {other} would be written to the same file: give each job one of them"
            )));
        }
        if !selection.is_all() {
            let places: Vec<(PathBuf, PathBuf)> =
                tars.iter().map(|tar| (tar.path.clone(), tar.target.clone())).collect();
            let unselected = unselected_samples(&places, selection).map_err(wrong)?;
            for (tar, keys) in tars.iter_mut().zip(unselected) {
                keys.iter()
                    .for_each(|key| passed_over.add(Reason::NotSelected, &tar.target.join(key)));
                tar.unselected = Arc::new(keys);
            }
        }
        Ok(Self::Tars { tars, passed_over })
    }
}

/// The tars at a URL, or below it.
fn objects_of(url: &Path, passed_over: &mut PassedOver) -> Result<Vec<Tar>, AugmentError> {
    let text = url.to_str().expect("what is taken for a URL is text");
    let location: Location =
        text.parse().map_err(|error: PlaceError| AugmentError::Use(format!("IN: {error}")))?;
    let remote = Remote::open(&location)?;
    let name = location.name().map(PathBuf::from).filter(|name| is_tar(name));
    if let Some(name) = name {
        let object = remote.find("")?.ok_or_else(|| {
            AugmentError::Use(format!("IN is {location}, and there is no such object"))
        })?;
        return Ok(vec![Tar::object(&remote, object, name)]);
    }
    let objects = remote.list()?;
    let found = Files::of_names(objects.iter().map(|object| object.name.clone().into()));
    passed_over.merge(found.passed_over);
    found.images.iter().for_each(|image| passed_over.add(Reason::Image, image));
    let tars: HashSet<PathBuf> = found.tars.into_iter().collect();
    let tars = objects.into_iter().filter(|object| tars.contains(Path::new(&object.name)));
    Ok(tars.map(|object| Tar::object(&remote, object.clone(), object.name.into())).collect())
}

/// Of tars in a store all tiles are taken: choosing would read each of them twice.
fn check_selection_of_urls(selection: &Selection) -> Result<(), AugmentError> {
    let said = if !selection.is_all() {
        "IN is a URL, of which all tiles are taken: leave out --split, --only, --exclude, \
        --tile-domains and --exclude-tile-domains"
    } else if !matches!(selection.format, Format::Auto | Format::Webdataset) {
        "IN is a URL, of which tars are read: leave out --layout"
    } else {
        return Ok(());
    };
    Err(AugmentError::Use(said.to_owned()))
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
