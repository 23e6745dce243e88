//! A data set as a list of images for a program that reads each of them once, byte for byte, and
//! decodes none: what `restain augment` works from. [`crate::Dataset`] is the same list for one
//! that draws at random and needs pixels.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use restain_bundle::codec::{ImageFormat, RgbImage, encode};

use crate::formats::{self, Files, Format, wilds};
use crate::passed_over::PassedOver;
use crate::places::{Place, Places};
use crate::selection::Selection;

/// What a folder is.
pub enum Found {
    /// Images, one by one.
    Images(Catalogue),
    /// Tars, which are read from their beginning to their end: see [`crate::read_samples`].
    Tars(Files),
}

/// The selected images of a data set.
pub struct Catalogue {
    /// Its layout.
    pub format: Format,
    /// The folder that paths begin at.
    pub root: PathBuf,
    /// Sorted by path.
    pub entries: Vec<Entry>,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// Names of the official splits.
    pub splits: Vec<String>,
    /// What was not taken, by reason.
    pub passed_over: PassedOver,
    places: Places,
}

/// One image of a [`Catalogue`].
pub struct Entry {
    /// Unique, relative to the root.
    pub path: PathBuf,
    /// Place in the order in which the data set was read: the row of its table.
    pub number: u32,
    /// Index into [`Catalogue::labels`].
    pub label: Option<usize>,
    /// Index into [`Catalogue::splits`].
    pub split: Option<usize>,
    /// Where its bytes are.
    pub place: Place,
}

impl Found {
    /// Finds out what `root` is, and lists its selected images unless they lie in tars.
    ///
    /// # Errors
    /// If the folder does not have the layout, a name of the selection does not exist, or no image
    /// is selected. Missing files are no error here.
    pub fn open(root: &Path, selection: &Selection) -> Result<Self> {
        let (format, found) = formats::find(root, selection.format)?;
        if format == Format::Webdataset {
            return Ok(Self::Tars(found));
        }
        let mut listing = formats::list(root, format, found, None)?;
        listing.sort();
        selection.apply(root, &mut listing)?;
        if format == Format::Wilds {
            wilds::resolve(&mut listing.items, root);
        }
        listing.places.root = root.to_owned();
        let entries = listing.items.into_iter().map(|item| Entry {
            path: item.path,
            number: item.number,
            label: item.label,
            split: item.split,
            place: item.place,
        });
        Ok(Self::Images(Catalogue {
            format,
            root: root.to_owned(),
            entries: entries.collect(),
            labels: listing.labels.all().to_vec(),
            splits: listing.splits,
            passed_over: listing.passed_over,
            places: listing.places,
        }))
    }
}

impl Catalogue {
    /// Reads the file of an image; an image that has none of its own becomes a PNG.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, path: &Path, place: Place) -> io::Result<Vec<u8>> {
        match place {
            Place::File => std::fs::read(self.root.join(path)),
            Place::Row { .. } | Place::Entry { .. } => {
                let image = self.places.decode(path, place).map_err(io::Error::other)?;
                let (width, height) = (image.width() as usize, image.height() as usize);
                let picture = RgbImage { width, height, pixels: image.into_raw() };
                encode(ImageFormat::Png, 100, &picture).map_err(io::Error::other)
            }
        }
    }
}
