//! What can be wrong with the names in a tar.

use std::collections::HashSet;

use super::sample::{check_fields, format_named};
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
    variants: usize,
    pub(super) originals: bool,
}

/// The names of one tar, as far as it has been read.
pub(super) struct Checked<'a> {
    names: &'a Names,
    tar: &'a Tar,
    keys: HashSet<String>,
    /// The field of the originals' tile, and that of the variants' where it is another.
    pub(super) renamed: Option<(String, String)>,
}

impl Names {
    pub(in crate::augment) fn of(args: &AugmentArgs) -> Self {
        Self {
            image_field: args.job.image_field.clone(),
            format: args.format(),
            variants: args.ask.variants as usize,
            originals: args.job.originals,
        }
    }

    /// The format of the variants of a tile in this field.
    pub(super) fn format(&self, field: &str) -> ImageFormat {
        self.format.or_else(|| format_named(field)).unwrap_or(ImageFormat::Png)
    }

    pub(super) fn begin<'a>(&'a self, tar: &'a Tar) -> Checked<'a> {
        let (keys, renamed) = (HashSet::new(), None);
        Checked { names: self, tar, keys, renamed }
    }
}

impl Checked<'_> {
    /// Takes the next item.
    ///
    /// # Errors
    /// When it must be said which field is the tile, or two fields would have one name.
    pub(super) fn see(&mut self, item: &TarItem) -> Result<(), AugmentError> {
        let TarItem::Sample(sample) = item else { return Ok(()) };
        if self.tar.unselected.contains(&sample.key) {
            return Ok(());
        }
        match sample.tile(self.names.image_field.as_deref()) {
            Ok(tile) => {
                let format = self.names.format(&sample.fields[tile].name);
                let renamed = check_fields(sample, tile, format);
                let other = renamed.map_err(|said| self.wrong(said))?;
                self.renamed = self.renamed.take().or(other);
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

/// Says that originals and variants differ in the names of their fields.
pub(super) fn warn_of_fields(renamed: Option<(String, String)>) {
    if let Some((own, other)) = renamed {
        tracing::warn!(
            "originals have the field {own}, and variants {other} in its place: some readers, such \
             as Hugging Face's datasets, take only samples of the same fields; originals in PNG, \
             JPEG or WebP share theirs"
        );
    }
}
