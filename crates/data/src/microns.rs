//! The size of the pixels of a data set, as its own TIFF files state it: OME, Aperio, or the
//! resolution of a microscope. Some images of each domain are looked at, and all must agree; where
//! they do not, nothing is assumed.

use std::fmt;

use anyhow::{Context, Result};
use restain_bundle::codec::{Microns, MicronsTag, microns};

use crate::{Dataset, Source};

/// Images of each domain that are looked at, evenly over its list.
const IMAGES: usize = 8;
/// How much larger than the smallest the largest size may be.
const ALIKE: f64 = 1.01;

/// What the files of a data set state, all of them the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StatedMicrons {
    /// µm a pixel.
    pub size: f64,
    /// Where it stands.
    pub from: MicronsTag,
    /// Images that were looked at.
    pub images: usize,
}

impl fmt::Display for StatedMicrons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, from, images } = self;
        write!(f, "{size} µm a pixel, {from} of {images} images")
    }
}

impl Dataset {
    /// Reads the size of a pixel from some images of each domain. Returns nothing if their files
    /// state none; and, with a warning, if only some of them do or they differ.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn stated_microns(&self) -> Result<Option<StatedMicrons>> {
        let mut stated = Vec::new();
        for members in &self.members {
            for number in members.iter().step_by(members.len().div_ceil(IMAGES).max(1)) {
                stated.push(self.microns_of(&self.sources[*number as usize])?);
            }
        }
        let images = stated.len();
        let found: Vec<Microns> = stated.into_iter().flatten().collect();
        let Some(first) = found.first().copied() else { return Ok(None) };
        let sizes = || found.iter().map(|stated| stated.size);
        let (least, most) = (sizes().fold(first.size, f64::min), sizes().fold(0.0, f64::max));
        if found.len() < images {
            tracing::warn!(
                "{} of {images} images state the size of their pixels, and the others none: --mpp \
                names it for all",
                found.len()
            );
        } else if most > ALIKE * least {
            tracing::warn!(
                "the images state pixels of {least} to {most} µm: --mpp names one size for all"
            );
        } else {
            return Ok(Some(StatedMicrons { size: first.size, from: first.from, images }));
        }
        Ok(None)
    }

    fn microns_of(&self, source: &Source) -> Result<Option<Microns>> {
        let file = self.places.file(&source.path, source.place);
        let named = || format!("{} cannot be read", self.places.root.join(&source.path).display());
        Ok(file.with_context(named)?.and_then(|bytes| microns(&bytes)))
    }
}
