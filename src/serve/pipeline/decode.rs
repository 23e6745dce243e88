//! From what a caller sent to pixels: sizes off the headers first, then the pixels themselves.

use std::sync::Arc;

use bytes::Bytes;
use rayon::prelude::*;

use super::plan::Plan;
use crate::codec::{self, DecodeError, Limits, RgbImage, TileKey};
use crate::method::geometry::CHANNELS;
use crate::serve::error::{Error, ErrorKind};

/// One tile as it came.
pub enum TileInput {
    /// The bytes of a PNG, JPEG, WebP or TIFF.
    File(Bytes),
    /// Pixels, `[height, width, 3] u8`.
    Pixels { width: usize, height: usize, pixels: Bytes },
}

/// A tile's pixels.
pub struct Decoded {
    pub key: TileKey,
    pub picture: Arc<RgbImage>,
    /// The same at the model's size, for the encoder; absent when the method does not need it.
    pub model_pixels: Option<Arc<[u8]>>,
}

/// What the headers say: enough to refuse and to account, before a pixel is decoded.
pub struct Sizes {
    tiles: Vec<(usize, usize)>,
    references: Vec<(usize, usize)>,
}

impl Sizes {
    /// # Errors
    /// The first picture that is none, or is too large, with its index.
    pub fn probe(tiles: &[TileInput], references: &[TileInput], limits: &Limits) -> Result<Self, Error> {
        Ok(Self { tiles: probe_all("tile", tiles, limits)?, references: probe_all("reference", references, limits)? })
    }

    /// # Errors
    /// The first tile that is not `side` pixels square.
    pub fn check(&self, side: usize) -> Result<(), Error> {
        for (list, sizes) in [("tile", &self.tiles), ("reference", &self.references)] {
            if let Some(index) = sizes.iter().position(|size| *size != (side, side)) {
                let (width, height) = sizes[index];
                let detail = format!(
                    "{list} {index} is {width}×{height} pixels, and the model works on {side}×{side}: \
                     send tiles of that size, or set resize to true"
                );
                return Err(Error::new(ErrorKind::TileSize, detail).at(list, index));
            }
        }
        Ok(())
    }

    /// Memory for the pixels, the latents and the answer.
    pub fn bytes(&self, plan: &Plan) -> u64 {
        let geometry = &plan.model.bundle.manifest.geometry;
        let pixels = |(width, height): &(usize, usize)| (width * height * CHANNELS) as u64;
        let all = self.tiles.iter().chain(&self.references);
        let decoded: u64 = all.map(pixels).sum::<u64>() * 2;
        let for_model = if plan.encodes() { geometry.tile_bytes() + 2 * geometry.tile_latent() * size_of::<f32>() } else { 0 };
        let encoded = (for_model * (self.tiles.len() + self.references.len())) as u64;
        // A variant is held as pixels and then as the bytes of a picture, which for noise are as many.
        let made = self.tiles.iter().map(pixels).sum::<u64>() * 2 * plan.variants as u64;
        decoded + encoded + made
    }
}

fn probe_all(list: &'static str, inputs: &[TileInput], limits: &Limits) -> Result<Vec<(usize, usize)>, Error> {
    let probe = |(index, input): (usize, &TileInput)| match input {
        TileInput::Pixels { width, height, .. } => Ok((*width, *height)),
        TileInput::File(bytes) => codec::probe(bytes, limits).map_err(|error| refused(&error, list, index)),
    };
    inputs.iter().enumerate().map(probe).collect()
}

/// Decodes a list on all threads of the pool; `side` is the model's, when it will see them.
///
/// # Errors
/// The first picture that cannot be decoded, with its index.
pub fn all(list: &'static str, inputs: &[TileInput], side: Option<usize>, limits: &Limits) -> Result<Vec<Decoded>, Error> {
    let decoded: Vec<Result<Decoded, Error>> = inputs
        .par_iter()
        .enumerate()
        .map(|(index, input)| {
            let picture = match input {
                TileInput::File(bytes) => codec::decode(bytes, limits).map_err(|error| refused(&error, list, index))?,
                TileInput::Pixels { width, height, pixels } => RgbImage { width: *width, height: *height, pixels: pixels.to_vec() },
            };
            let model_pixels = side.map(|side| codec::resize(&picture, side, side).pixels.into());
            Ok(Decoded { key: TileKey::of(&picture), picture: Arc::new(picture), model_pixels })
        })
        .collect();
    // In order, so that of several bad tiles the first is named, whichever thread was faster.
    decoded.into_iter().collect()
}

fn refused(error: &DecodeError, list: &'static str, index: usize) -> Error {
    let kind = match error {
        DecodeError::TooLarge { .. } => ErrorKind::ImageTooLarge,
        _ => ErrorKind::UndecodableImage,
    };
    Error::new(kind, format!("{list} {index}: {error}")).at(list, index)
}
