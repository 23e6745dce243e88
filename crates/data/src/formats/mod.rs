//! The layouts of a data set on disk, and how [`list`] recognises them.
//!
//! Each layout has one reader, which turns a folder into a [`Listing`]. Selection, decoding and
//! sampling are the same for all of them and lie outside this module.

mod epistr;
pub(crate) mod folders;
pub(crate) mod manifest;
mod pcam;
pub(crate) mod tars;
pub(crate) mod wilds;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::listing::Listing;
use crate::passed_over::Reason;
use folders::ENDINGS;
pub(crate) use folders::is_image;
pub use folders::{Files, is_tar};

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

/// Finds out what `root` is. Returns the format, which for [`Format::Auto`] is the recognised one,
/// and the files if all of the folder had to be walked.
///
/// # Errors
/// If `root` is not a folder, or holds what could be read as two formats.
pub(crate) fn find(root: &Path, format: Format) -> Result<(Format, Files)> {
    ensure!(root.is_dir(), "{} is not a folder", root.display());
    match format {
        Format::Auto => recognise(root),
        Format::Folders | Format::Webdataset => Ok((format, Files::below(root)?)),
        _ => Ok((format, Files::default())),
    }
}

/// Lists the images of a data set that was found.
///
/// # Errors
/// If it holds no images, or does not have the layout of `format`.
pub(crate) fn list(
    root: &Path,
    format: Format,
    found: Files,
    image_field: Option<&str>,
) -> Result<Listing> {
    let mut listing = match format {
        Format::Wilds => wilds::list(root)?,
        Format::Epistr => epistr::list(root)?,
        Format::Pcam => pcam::list(root)?,
        Format::Webdataset => {
            let mut tars: Vec<PathBuf> = found.tars;
            tars.sort();
            let tars: Vec<(PathBuf, PathBuf)> =
                tars.into_iter().map(|tar| (root.join(&tar), tar)).collect();
            let mut listing = tars::list(&tars, image_field)?;
            listing.passed_over.merge(found.passed_over);
            found.images.iter().for_each(|image| listing.passed_over.add(Reason::Image, image));
            listing
        }
        Format::Folders | Format::Auto => folders::list(found),
    };
    if listing.items.is_empty() {
        let (root, endings) = (root.display(), ENDINGS.join(", "));
        let first = listing.without_image.first().map(|said| format!("; {said}"));
        let (first, passed_over) = (first.unwrap_or_default(), &listing.passed_over);
        bail!(
            "{root} holds no images ({endings}){first}{}{passed_over}",
            if passed_over.is_empty() { "" } else { "; " }
        );
    }
    listing.items.iter_mut().zip(0..).for_each(|(item, number)| item.number = number);
    Ok(listing)
}

/// Recognises the format. Returns the files as well if all of the folder had to be walked.
fn recognise(root: &Path) -> Result<(Format, Files)> {
    if wilds::find(root).is_some() {
        return Ok((Format::Wilds, Files::default()));
    }
    if pcam::is_here(root) {
        return Ok((Format::Pcam, Files::default()));
    }
    if epistr::is_here(root) {
        return Ok((Format::Epistr, Files::default()));
    }
    let found = Files::below(root)?;
    match (found.images.is_empty(), found.tars.is_empty()) {
        (false, false) => {
            bail!(
                "{} holds both images and tars (for example {}): choose one with --layout folders \
                or --layout webdataset",
                root.display(),
                found.tars[0].display()
            )
        }
        (true, false) => Ok((Format::Webdataset, found)),
        _ => Ok((Format::Folders, found)),
    }
}
