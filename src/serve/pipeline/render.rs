//! An answer's pixels as the bytes of pictures. Computing, for a CPU thread; parallel where it
//! pays.

use rayon::prelude::*;

use super::answer::{Answer, AnsweredTile, MadeVariant};
use restain_bundle::codec::{self, EncodeError, ImageFormat, RgbImage};

/// Every variant as a picture, `[tile][variant]`.
///
/// # Errors
/// When a picture cannot be written.
pub fn pictures(answer: &Answer, format: ImageFormat) -> Result<Vec<Vec<Vec<u8>>>, EncodeError> {
    let of_tile = |tile: &AnsweredTile| -> Result<Vec<_>, EncodeError> {
        let encode =
            |variant| codec::encode(format, answer.output.quality, &picture(answer, tile, variant));
        tile.variants.par_iter().map(encode).collect()
    };
    answer.tiles.par_iter().map(of_tile).collect()
}

/// One picture of them all: a row for each tile, the original first.
///
/// # Errors
/// When the picture cannot be written.
pub fn sheet(answer: &Answer, format: ImageFormat) -> Result<Vec<u8>, EncodeError> {
    let row = |tile: &AnsweredTile| -> Vec<RgbImage> {
        let original = tile.original.iter().map(|pixels| RgbImage {
            width: tile.width,
            height: tile.height,
            pixels: pixels.to_vec(),
        });
        original.chain(tile.variants.iter().map(|variant| picture(answer, tile, variant))).collect()
    };
    let rows: Vec<Vec<RgbImage>> = answer.tiles.iter().map(row).collect();
    let rows: Vec<Vec<&RgbImage>> = rows.iter().map(|row| row.iter().collect()).collect();
    codec::encode(format, answer.output.quality, &codec::sheet(&rows))
}

fn picture(answer: &Answer, tile: &AnsweredTile, variant: &MadeVariant) -> RgbImage {
    RgbImage { width: tile.width, height: tile.height, pixels: answer.pixels_of(variant).to_vec() }
}
