//! What IN is, and what is in it: tiles by their paths, in an order that is the same on every
//! machine.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::{AugmentError, unreadable};
use super::pattern;
use super::tile::{Tile, has_picture_ending};
use super::wilds::Table;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LayoutChoice {
    /// Recognised by what is in it
    Auto,
    /// Pictures in folders
    Folder,
    /// metadata.csv and patches/, in the columns of camelyon17_v1.0
    Wilds,
    /// Tars of samples, a sample being files of one name
    Webdataset,
}

/// A data set, listed.
pub(super) enum Input {
    Folder { root: PathBuf, tiles: Vec<Tile> },
    Wilds { root: PathBuf, table: Table, tiles: Vec<Tile> },
    Tars(Vec<Tar>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tar {
    pub path: PathBuf,
    /// Where it goes below OUT.
    pub target: PathBuf,
}

impl Input {
    /// Lists what `paths` hold.
    ///
    /// # Errors
    /// When they are no data set of this layout, or two tiles would be written to one place.
    pub(super) fn list(paths: &[PathBuf], choice: LayoutChoice) -> Result<Self, AugmentError> {
        let paths: Vec<PathBuf> =
            paths.iter().map(|path| pattern::expand(path)).collect::<Result<Vec<_>, _>>()?.concat();
        if let Some(missing) = paths.iter().find(|path| !path.exists()) {
            return Err(AugmentError::Use(format!(
                "IN is {}, and there is no such file or folder",
                missing.display()
            )));
        }
        let one_folder =
            if let [path] = &paths[..] { Some(path).filter(|path| path.is_dir()) } else { None };
        match choice {
            LayoutChoice::Folder => {
                Self::folder(one_folder.ok_or_else(|| not_one_folder("a folder of pictures"))?)
            }
            LayoutChoice::Wilds => {
                let root = one_folder.ok_or_else(|| not_one_folder("a WILDS root"))?;
                let table = Table::open(root)?.ok_or_else(|| {
                    AugmentError::Use(format!(
                        "{} has no metadata.csv with the columns {}",
                        root.display(),
                        Table::wanted()
                    ))
                })?;
                Self::wilds(root, table)
            }
            LayoutChoice::Webdataset => Self::tars(&paths),
            LayoutChoice::Auto => match one_folder {
                None => Self::tars(&paths),
                Some(root) => match Table::open(root)? {
                    Some(table) => Self::wilds(root, table),
                    None => {
                        let mut found = Vec::new();
                        walk(root, &mut Vec::new(), &mut |path| found.push(path))?;
                        let has = |wanted: fn(&Path) -> bool| found.iter().any(|path| wanted(path));
                        match (has(has_picture_ending), has(is_tar)) {
                            (true, true) => Err(AugmentError::Use(format!(
                                "{} holds pictures and tars: say which with --layout folder or --layout webdataset",
                                root.display()
                            ))),
                            (false, true) => Self::tars(&paths),
                            _ => Self::folder(root),
                        }
                    }
                },
            },
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "folder",
            Self::Wilds { .. } => "wilds",
            Self::Tars(_) => "webdataset",
        }
    }

    fn folder(root: &Path) -> Result<Self, AugmentError> {
        let mut files = Vec::new();
        walk(root, &mut Vec::new(), &mut |path| {
            if has_picture_ending(&path) {
                files.push(path);
            }
        })?;
        let below = |path: PathBuf| {
            path.strip_prefix(root).expect("it was found below the root").to_owned()
        };
        let mut files: Vec<PathBuf> = files.into_iter().map(below).collect();
        files.sort();
        if files.is_empty() {
            return Err(AugmentError::Use(format!(
                "{} holds no picture: PNG, JPEG, WebP and TIFF are read",
                root.display()
            )));
        }
        let mut stems: Vec<(PathBuf, &PathBuf)> =
            files.iter().map(|path| (path.with_extension(""), path)).collect();
        stems.sort();
        if let Some([(_, one), (_, other)]) = stems.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let (one, other) = (one.display(), other.display());
            return Err(AugmentError::Use(format!(
                "{one} and {other} would be written to the same files: rename one of them"
            )));
        }
        Ok(Self::Folder {
            root: root.to_owned(),
            tiles: files.into_iter().map(Tile::File).collect(),
        })
    }

    fn wilds(root: &Path, table: Table) -> Result<Self, AugmentError> {
        let tiles = table.patches()?;
        if tiles.is_empty() {
            return Err(AugmentError::Use(format!(
                "metadata.csv of {} has no row",
                root.display()
            )));
        }
        Ok(Self::Wilds { root: root.to_owned(), table, tiles })
    }

    fn tars(paths: &[PathBuf]) -> Result<Self, AugmentError> {
        let mut tars = Vec::new();
        for path in paths {
            if path.is_dir() {
                let below = |found: &PathBuf| {
                    found.strip_prefix(path).expect("it was found below the folder").to_owned()
                };
                walk(path, &mut Vec::new(), &mut |found| {
                    if is_tar(&found) {
                        tars.push(Tar { target: below(&found), path: found });
                    }
                })?;
            } else if is_tar(path) {
                let name = path.file_name().expect("a path with an ending has a name");
                tars.push(Tar { target: name.into(), path: path.clone() });
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
        Ok(Self::Tars(tars))
    }
}

fn not_one_folder(what: &str) -> AugmentError {
    AugmentError::Use(format!("IN must be {what}, and one folder"))
}

fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tar"))
}

/// Every file below a folder; links are followed, and hidden ones left out, which belong to no data
/// set. `above` holds the folders on the way, so that a link back to one of them ends there.
fn walk(
    folder: &Path,
    above: &mut Vec<PathBuf>,
    found: &mut dyn FnMut(PathBuf),
) -> Result<(), AugmentError> {
    let real = folder.canonicalize().map_err(unreadable(folder))?;
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let entry = entry.map_err(unreadable(folder))?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = entry.file_type().map_err(unreadable(&path))?;
        if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
            walk(&path, above, found)?;
        } else {
            found(path);
        }
    }
    above.pop();
    Ok(())
}
