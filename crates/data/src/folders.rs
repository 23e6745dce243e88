//! Folders of images: `DIR/<domain>/…/image`, and what lies in DIR itself is the domain `default`. The folder of an image
//! is its label, where there is one below the domain's: `DIR/<domain>/…/<label>/image`.
//!
//! Also [`walk`], which other formats list their folders with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::listing::{Item, Listing};
use super::places::Place;

/// Endings that are read; everything else in the folder is passed over.
pub(crate) const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "tif", "tiff"];

/// The domain of what lies in no folder of its own.
pub(crate) const NO_DOMAIN: &str = "default";

/// Files below a folder, relative to it.
#[derive(Default)]
pub(crate) struct Walk {
    pub images: Vec<PathBuf>,
    pub tars: Vec<PathBuf>,
}

/// Every image and every tar below `root`, folders side by side. In no order.
pub(crate) fn walk(root: &Path) -> Result<Walk> {
    walk_below(root, Path::new(""))
}

fn walk_below(root: &Path, folder: &Path) -> Result<Walk> {
    let full = root.join(folder);
    let unlistable = || format!("{} cannot be listed", full.display());
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

pub(crate) fn is_image(path: &Path) -> bool {
    path.extension()
        .and_then(|end| end.to_str())
        .is_some_and(|end| ENDINGS.iter().any(|known| end.eq_ignore_ascii_case(known)))
}

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

/// The folder of an image, where it is not the domain's own.
fn label_name(path: &Path) -> Option<String> {
    let folder = path.parent()?;
    (folder.components().count() >= 2)
        .then(|| folder.file_name().expect("two components").to_string_lossy().into_owned())
}
