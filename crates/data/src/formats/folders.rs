//! Folders of images: `DIR/<domain>/…/image`. Images directly in DIR belong to the domain
//! `default`. The innermost folder below the domain's is the label: `DIR/<domain>/…/<label>/image`.
//!
//! [`Files`] also serves the other formats. Links are followed. What is hidden is passed over: it
//! is a program's own, such as `.ipynb_checkpoints` or the `._` files of macOS.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;

use crate::listing::{Item, Listing};
use crate::passed_over::{PassedOver, Reason};

/// The file name extensions of images, in the order in which they are looked for.
pub(crate) const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "tif", "tiff", "webp"];

/// Extensions of whole slides that are no tiles, whatever their size.
const SLIDES: [&str; 11] =
    ["svs", "ndpi", "mrxs", "scn", "vms", "vmu", "bif", "svslide", "czi", "isyntax", "dcm"];

/// The domain of images that lie in no domain's folder.
pub(crate) const NO_DOMAIN: &str = "default";

/// The images and tars below a folder, relative to it, in no particular order.
#[derive(Default)]
pub struct Files {
    /// Files with the ending of an image.
    pub images: Vec<PathBuf>,
    /// Files with the ending of a tar.
    pub tars: Vec<PathBuf>,
    /// What is neither.
    pub passed_over: PassedOver,
}

/// The real path of a folder, and the folders that it was reached through.
struct Above<'a> {
    real: PathBuf,
    above: Option<&'a Above<'a>>,
}

impl Above<'_> {
    fn holds(&self, real: &Path) -> bool {
        self.real == real || self.above.is_some_and(|above| above.holds(real))
    }
}

impl Files {
    /// Finds every image and every tar below `root`. Folders are read in parallel.
    ///
    /// # Errors
    /// If a folder cannot be listed.
    pub fn below(root: &Path) -> Result<Self> {
        walk_below(root, Path::new(""), None)
    }

    /// Sorts files by their names alone, such as those of an object store, where nothing can be a
    /// link.
    pub fn of_names(names: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut found = Self::default();
        for name in names {
            if name.iter().any(is_hidden) {
                found.passed_over.add(Reason::Hidden, &name);
            } else {
                found.take(name);
            }
        }
        found
    }

    /// Takes a file that is not hidden.
    fn take(&mut self, path: PathBuf) {
        if is_image(&path) {
            self.images.push(path);
        } else if is_tar(&path) {
            self.tars.push(path);
        } else {
            let is_slide = has_ending(&path, &SLIDES);
            let reason = if is_slide { Reason::Slide } else { Reason::NoImage };
            self.passed_over.add(reason, &path);
        }
    }
}

fn walk_below(root: &Path, folder: &Path, above: Option<&Above<'_>>) -> Result<Files> {
    let full = root.join(folder);
    let unlistable = || format!("cannot list {}", full.display());
    let (mut found, mut folders) = (Files::default(), Vec::new());
    let real = full.canonicalize().with_context(unlistable)?;
    if above.is_some_and(|above| above.holds(&real)) {
        found.passed_over.add(Reason::LinkLoop, folder);
        return Ok(found);
    }
    for entry in std::fs::read_dir(&full).with_context(unlistable)? {
        let entry = entry.with_context(unlistable)?;
        let path = folder.join(entry.file_name());
        let kind = entry.file_type().with_context(unlistable)?;
        // A link that leads nowhere is listed, so that it is named when it cannot be read.
        let metadata = || root.join(&path).metadata();
        let is = |wanted: fn(&std::fs::Metadata) -> bool| metadata().is_ok_and(|it| wanted(&it));
        let is_link = kind.is_symlink();
        let is_file = kind.is_file() || (is_link && metadata().map_or(true, |it| it.is_file()));
        if is_hidden(&entry.file_name()) {
            found.passed_over.add(Reason::Hidden, &path);
        } else if kind.is_dir() || (is_link && is(std::fs::Metadata::is_dir)) {
            folders.push(path);
        } else if !is_file {
            found.passed_over.add(Reason::NoFile, &path);
        } else {
            found.take(path);
        }
    }
    let here = Above { real, above };
    let walk = |folder: &PathBuf| walk_below(root, folder, Some(&here));
    for more in folders.par_iter().map(walk).collect::<Result<Vec<_>>>()? {
        found.images.extend(more.images);
        found.tars.extend(more.tars);
        found.passed_over.merge(more.passed_over);
    }
    Ok(found)
}

/// Returns whether a name begins with a dot, and is not `.` or `..`.
pub(crate) fn is_hidden(name: &std::ffi::OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name != b"." && name != b".."
}

/// Returns whether a file name has the extension of an image.
pub(crate) fn is_image(path: &Path) -> bool {
    has_ending(path, &ENDINGS)
}

/// Returns whether a file name has the extension of a tar.
pub fn is_tar(path: &Path) -> bool {
    has_ending(path, &["tar"])
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension()
        .and_then(|end| end.to_str())
        .is_some_and(|end| endings.iter().any(|known| end.eq_ignore_ascii_case(known)))
}

/// Lists images, whose paths are relative to the data set.
pub(crate) fn list(found: Files) -> Listing {
    let mut listing = Listing { passed_over: found.passed_over, ..Listing::default() };
    found.tars.iter().for_each(|tar| listing.passed_over.add(Reason::Tar, tar));
    for path in found.images {
        let domain = listing.domains.number(&domain_name(&path));
        let label = label_name(&path).map(|name| listing.labels.number(&name));
        listing.items.push(Item { domain, label, ..Item::file(path) });
    }
    listing
}

fn domain_name(path: &Path) -> String {
    match path.components().count() {
        0 | 1 => NO_DOMAIN.into(),
        _ => path.iter().next().expect("two components").to_string_lossy().into_owned(),
    }
}

/// Returns the name of an image's folder, unless that is its domain's own.
fn label_name(path: &Path) -> Option<String> {
    let folder = path.parent()?;
    (folder.components().count() >= 2)
        .then(|| folder.file_name().expect("two components").to_string_lossy().into_owned())
}
