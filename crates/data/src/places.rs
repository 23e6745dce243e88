//! Where the bytes of an image lie, and how they are decoded into pixels.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use image::RgbImage;

use crate::rows::Rows;
use restain_bundle::codec::{self, Limits};

/// A field may be a whole slide at low resolution; a larger picture is taken for damaged.
const LIMITS: Limits = Limits { max_pixels: 1 << 32, max_side: u32::MAX };

/// This much of a file almost always holds its whole header.
const HEAD_BYTES: usize = 64 << 10;

/// Where the bytes of an image are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file of its own, at the item's path.
    File,
    /// A row of an HDF5 data set.
    Row {
        /// Its number among the open files.
        file: usize,
        /// From 0.
        row: u64,
    },
    /// Bytes `offset..offset + length` of a tar.
    Entry {
        /// Its number among the open tars.
        tar: usize,
        /// Where they begin.
        offset: u64,
        /// Their number.
        length: u64,
    },
}

/// The folder and the open containers of a data set.
#[derive(Default)]
pub(crate) struct Places {
    pub root: PathBuf,
    pub tars: Vec<File>,
    pub rows: Vec<Rows>,
}

impl Places {
    /// Decodes an image, [H, W, 3].
    ///
    /// # Errors
    /// If it cannot be read or decoded.
    pub(crate) fn decode(&self, path: &Path, place: Place) -> Result<RgbImage> {
        if let Place::Row { file, row } = place {
            return self.rows[file].image(row);
        }
        let file = self.file(path, place)?.expect("only rows have no file");
        let picture = codec::decode(&file, &LIMITS)?;
        let (width, height) = (picture.width as u32, picture.height as u32);
        RgbImage::from_raw(width, height, picture.pixels).context("the image has no pixels")
    }

    /// Reads the file of an image; rows of an HDF5 data set have none of their own.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn file(&self, path: &Path, place: Place) -> Result<Option<Vec<u8>>> {
        match place {
            Place::Row { .. } => Ok(None),
            Place::File => Ok(Some(std::fs::read(self.root.join(path))?)),
            Place::Entry { tar, offset, length } => {
                entry(&self.tars[tar], offset, length).map(Some)
            }
        }
    }

    /// Reads width and height in pixels, from the header alone if that is possible.
    ///
    /// # Errors
    /// If it cannot be read, or its header cannot be decoded.
    pub(crate) fn size(&self, path: &Path, place: Place) -> Result<(u32, u32)> {
        let own;
        let (file, offset, length) = match place {
            Place::Row { .. } => {
                bail!("rows of an HDF5 data set have the size that their format states")
            }
            Place::File => {
                own = File::open(self.root.join(path))?;
                (&own, 0, own.metadata()?.len())
            }
            Place::Entry { tar, offset, length } => (&self.tars[tar], offset, length),
        };
        let head = entry(file, offset, length.min(HEAD_BYTES as u64))?;
        let (width, height) = match codec::probe(&head, &LIMITS) {
            Ok(size) => size,
            Err(_) => codec::probe(&entry(file, offset, length)?, &LIMITS)?,
        };
        ensure!(width > 0 && height > 0, "the image has no pixels");
        Ok((width as u32, height as u32))
    }
}

fn entry(file: &File, offset: u64, length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
