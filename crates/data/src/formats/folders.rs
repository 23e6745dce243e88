//! Folders of images: `DIR/<domain>/…/image`. Images directly in DIR belong to the domain
//! `default`. The innermost folder below the domain's is the label: `DIR/<domain>/…/<label>/image`.
//!
//! [`walk`] also serves the other formats.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;

use crate::listing::{Item, Listing};
use crate::places::Place;

/// The file name extensions of images; other files are ignored.
pub(crate) const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "tif", "tiff"];

/// The domain of images that lie in no domain's folder.
pub(crate) const NO_DOMAIN: &str = "default";

/// The images and tars below a folder, relative to it.
#[derive(Default)]
pub(crate) struct Walk {
    pub images: Vec<PathBuf>,
    pub tars: Vec<PathBuf>,
}

/// Finds every image and every tar below `root`, in no particular order. Folders are read in
/// parallel.
///
/// # Errors
/// If a folder cannot be listed.
pub(crate) fn walk(root: &Path) -> Result<Walk> {
    walk_below(root, Path::new(""))
}

fn walk_below(root: &Path, folder: &Path) -> Result<Walk> {
    let full = root.join(folder);
    let unlistable = || format!("cannot list {}", full.display());
    let (mut found, mut folders) = (Walk::default(), Vec::new());
    for entry in std::fs::read_dir(&full).with_context(unlistable)? {
        let entry = entry.with_context(unlistable)?;
        let path = folder.join(entry.file_name());
        let kind = entry.file_type().with_context(unlistable)?;
        if kind.is_dir() || (kind.is_symlink() && root.join(&path).is_dir()) {
            folders.push(path);
        } else if is_image(&path) {
            found.images.push(path);
        } else if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("tar")) {
            found.tars.push(path);
        }
    }
    let below =
        folders.par_iter().map(|folder| walk_below(root, folder)).collect::<Result<Vec<_>>>()?;
    for more in below {
        found.images.extend(more.images);
        found.tars.extend(more.tars);
    }
    Ok(found)
}

/// Returns whether a file name has the extension of an image.
pub(crate) fn is_image(path: &Path) -> bool {
    path.extension()
        .and_then(|end| end.to_str())
        .is_some_and(|end| ENDINGS.iter().any(|known| end.eq_ignore_ascii_case(known)))
}

/// Lists `images`, whose paths are relative to the data set.
pub(crate) fn list(images: Vec<PathBuf>) -> Listing {
    let mut listing = Listing::default();
    for path in images {
        let domain = listing.domains.number(&domain_name(&path));
        let label = label_name(&path).map(|name| listing.labels.number(&name));
        listing.items.push(Item {
            path,
            domain,
            label,
            split: None,
            place: Place::File,
            size: None,
        });
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
