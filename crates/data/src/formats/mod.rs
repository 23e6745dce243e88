//! The layouts of a data set on disk, and how [`list`] recognises them.
//!
//! Each layout has one reader, which turns a folder into a [`Listing`]. Selection, decoding and
//! sampling are the same for all of them and lie outside this module.

mod epistr;
mod folders;
mod pcam;
mod tars;
pub(crate) mod wilds;

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::listing::Listing;
use folders::{ENDINGS, Walk, walk};

/// The layout of a data set on disk: `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Recognise the layout from the folder itself
    #[default]
    Auto,
    /// `image`, `<domain>/image` or `<domain>/…/<label>/image`
    Folders,
    /// Camelyon17-WILDS as released, labelled or not: `metadata.csv` and `patches/`
    Wilds,
    /// Epithelium and stroma: `{IHC,NCH,NKI,VGH}/{train,test}/{epi,str}/image`
    Epistr,
    /// PatchCamelyon: `camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5`
    Pcam,
    /// Tars of `key.png` with `key.cls` or `key.json`
    Webdataset,
}

/// Lists the images below `root`. Returns the format as well, which for [`Format::Auto`] is the
/// recognised one.
///
/// # Errors
/// If `root` is not a folder, holds no images, or does not have the layout of `format`.
pub(crate) fn list(root: &Path, format: Format) -> Result<(Format, Listing)> {
    ensure!(root.is_dir(), "{} is not a folder", root.display());
    let (format, found) = match format {
        Format::Auto => recognise(root)?,
        Format::Folders | Format::Webdataset => (format, walk(root)?),
        _ => (format, Walk::default()),
    };
    let listing = match format {
        Format::Wilds => wilds::list(root)?,
        Format::Epistr => epistr::list(root)?,
        Format::Pcam => pcam::list(root)?,
        Format::Webdataset => tars::list(root, found.tars)?,
        Format::Folders | Format::Auto => folders::list(found.images),
    };
    ensure!(
        !listing.items.is_empty(),
        "{} holds no images ({})",
        root.display(),
        ENDINGS.join(", ")
    );
    Ok((format, listing))
}

/// Recognises the format. Returns the files as well if all of the folder had to be walked.
fn recognise(root: &Path) -> Result<(Format, Walk)> {
    if wilds::find(root).is_some() {
        return Ok((Format::Wilds, Walk::default()));
    }
    if pcam::is_here(root) {
        return Ok((Format::Pcam, Walk::default()));
    }
    if epistr::is_here(root) {
        return Ok((Format::Epistr, Walk::default()));
    }
    let found = walk(root)?;
    match (found.images.is_empty(), found.tars.is_empty()) {
        (false, false) => {
            bail!(
                "{} holds both images and tars (for example {}): choose one with --layout folders or \
                 --layout webdataset",
                root.display(),
                found.tars[0].display()
            )
        }
        (true, false) => Ok((Format::Webdataset, found)),
        _ => Ok((Format::Folders, found)),
    }
}
