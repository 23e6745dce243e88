//! What can be wrong with the names in a tar.

use std::collections::HashSet;

use super::sample::{check_fields, format_named, has_name_of};
use crate::augment::collisions::check_keys;
use crate::augment::error::AugmentError;
use crate::augment::layout::Tar;
use crate::augment::options::AugmentArgs;
use restain_bundle::codec::ImageFormat;
use restain_data::{NoTile, Sample, TarItem};

/// What decides which names are written.
#[derive(Clone, Debug)]
pub(in crate::augment) struct Names {
    image_field: Option<String>,
    /// Nothing where the variants of a tile have the format that its field is named after.
    format: Option<ImageFormat>,
    quality: u8,
    variants: usize,
    originals: bool,
}

/// The names of one tar, as far as it has been read.
pub(super) struct Checked<'a> {
    names: &'a Names,
    tar: &'a Tar,
    keys: HashSet<String>,
}

impl Names {
    pub(in crate::augment) fn of(args: &AugmentArgs) -> Self {
        Self {
            image_field: args.job.image_field.clone(),
            format: args.format(),
            quality: args.ask.quality,
            variants: args.ask.variants as usize,
            originals: args.job.originals,
        }
    }

    /// The format of the variants of a tile in this field.
    pub(super) fn format(&self, field: &str) -> ImageFormat {
        self.format.or_else(|| format_named(field)).unwrap_or(ImageFormat::Png)
    }

    /// An original is written in the format of its variants, so that all samples have the same
    /// fields: some readers, such as Hugging Face's `datasets`, load no others.
    ///
    /// # Errors
    /// In words, if that format would change its pixels.
    fn check_original(
        &self,
        sample: &Sample,
        tile: usize,
        format: ImageFormat,
    ) -> Result<(), String> {
        let own = &sample.fields[tile].name;
        if !self.originals || has_name_of(own, format) || format.is_lossless(self.quality) {
            return Ok(());
        }
        Err(format!(
            "the original of sample {} is in its field {own}, and its variants would be {}, which \
             would change the original's pixels: leave out --format, or use --format png, or webp \
             with --quality 100",
            sample.key,
            format.extension(),
        ))
    }

    pub(super) fn begin<'a>(&'a self, tar: &'a Tar) -> Checked<'a> {
        Checked { names: self, tar, keys: HashSet::new() }
    }
}

impl Checked<'_> {
    /// Takes the next item.
    ///
    /// # Errors
    /// When it must be said which field is the tile, two fields would have one name, or an original
    /// would lose pixels in the format of its variants.
    pub(super) fn see(&mut self, item: &TarItem) -> Result<(), AugmentError> {
        let TarItem::Sample(sample) = item else { return Ok(()) };
        if self.tar.unselected.contains(&sample.key) {
            return Ok(());
        }
        match sample.tile(self.names.image_field.as_deref()) {
            Ok(tile) => {
                let format = self.names.format(&sample.fields[tile].name);
                check_fields(sample, tile, format).map_err(|said| self.wrong(said))?;
                self.names.check_original(sample, tile, format).map_err(|said| self.wrong(said))?;
            }
            Err(NoTile::None(_)) => {}
            Err(several) => return Err(asked(self.tar, sample, &several)),
        }
        self.keys.insert(sample.key.clone());
        Ok(())
    }

    /// Returns the number of samples.
    ///
    /// # Errors
    /// When one of them and a variant of another would have one key.
    pub(super) fn end(&self) -> Result<u64, AugmentError> {
        let Names { variants, originals, .. } = *self.names;
        check_keys(&self.keys, variants, originals).map_err(|said| self.wrong(said))?;
        Ok(self.keys.len() as u64)
    }

    fn wrong(&self, said: String) -> AugmentError {
        AugmentError::Tar { path: self.tar.path.clone(), said }
    }
}

/// Asks which field is the tile.
pub(super) fn asked(tar: &Tar, sample: &Sample, several: &NoTile) -> AugmentError {
    let said = format!("sample {} {several}", sample.key);
    AugmentError::Tar { path: tar.path.clone(), said }
}
