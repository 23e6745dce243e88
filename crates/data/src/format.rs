//! How a data set lies on disk, and how that is found out.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::folders::{self, ENDINGS, Walk, walk};
use super::listing::Listing;
use super::{epistr, pcam, tars, wilds};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Found out from the folder itself
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

/// What is in a folder, in the format asked for or found out.
pub(crate) fn list(root: &Path, format: Format) -> Result<(Format, Listing)> {
    ensure!(root.is_dir(), "{} is no folder", root.display());
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

/// The format, and what was found on the way where all of the folder had to be looked through.
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
                "{} holds images and tars ({} first): use --layout folders or webdataset",
                root.display(),
                found.tars[0].display()
            )
        }
        (true, false) => Ok((Format::Webdataset, found)),
        _ => Ok((Format::Folders, found)),
    }
}
