//! An answer's pixels as the bytes of pictures. Computing, for a CPU thread; parallel where it pays.

use rayon::prelude::*;

use super::answer::{Answer, AnsweredTile};
use crate::codec::{self, EncodeError, ImageFormat, RgbImage};

/// Every variant as a picture, `[tile][variant]`.
///
/// # Errors
/// When a picture cannot be written.
pub fn pictures(answer: &Answer, format: ImageFormat) -> Result<Vec<Vec<Vec<u8>>>, EncodeError> {
    let of_tile = |tile: &AnsweredTile| -> Result<Vec<_>, EncodeError> {
        tile.variants.par_iter().map(|variant| codec::encode(format, answer.output.quality, &variant.picture)).collect()
    };
    answer.tiles.par_iter().map(of_tile).collect()
}

/// One picture of them all: a row for each tile, the original first.
///
/// # Errors
/// When the picture cannot be written.
pub fn sheet(answer: &Answer, format: ImageFormat) -> Result<Vec<u8>, EncodeError> {
    let rows: Vec<Vec<&RgbImage>> = answer
        .tiles
        .iter()
        .map(|tile| std::iter::once(&*tile.picture).chain(tile.variants.iter().map(|variant| &variant.picture)).collect())
        .collect();
    codec::encode(format, answer.output.quality, &codec::sheet(&rows))
}
