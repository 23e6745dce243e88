//! An answer's pixels as the bytes of pictures: computing, on the CPU threads, a picture at a time.

use std::sync::Arc;

use super::answer::{Answer, AnsweredTile, MadeVariant};
use crate::serve::error::{Error, ErrorKind};
use crate::serve::runtime::cpu::Cpu;
use restain_bundle::codec::{self, EncodeError, ImageFormat, RgbImage};

/// The caller's error of a picture that is too large for the format asked for.
pub fn no_such_picture(error: &EncodeError) -> Error {
    Error::new(ErrorKind::NotAcceptable, error.to_string())
}

/// Every variant as a picture, `[tile][variant]`.
///
/// # Errors
/// `not_acceptable`, when the format cannot have the size of a picture.
pub async fn pictures(
    cpu: &Cpu,
    answer: &Arc<Answer>,
    format: ImageFormat,
) -> Result<Vec<Vec<Vec<u8>>>, Error> {
    let counts: Vec<usize> = answer.tiles.iter().map(|tile| tile.variants.len()).collect();
    let places: Vec<(usize, usize)> = counts
        .iter()
        .enumerate()
        .flat_map(|(tile, &variants)| (0..variants).map(move |variant| (tile, variant)))
        .collect();
    let of = Arc::clone(answer);
    let encode = move |(tile, variant): (usize, usize)| {
        let tile = &of.tiles[tile];
        let picture = picture(&of, tile, &tile.variants[variant]);
        codec::encode(format, of.output.quality, &picture)
    };
    let written: Result<Vec<_>, EncodeError> =
        cpu.each(places, encode).await?.into_iter().collect();
    let mut written = written.map_err(|error| no_such_picture(&error))?.into_iter();
    Ok(counts.into_iter().map(|count| written.by_ref().take(count).collect()).collect())
}

/// Memory for the sheet and the pictures on it, and as much again for its bytes.
pub fn sheet_bytes(answer: &Answer) -> u64 {
    let most = |side: fn(&AnsweredTile) -> usize| answer.tiles.iter().map(side).max().unwrap_or(0);
    let cell = codec::sheet_bytes(most(|tile| tile.width), most(|tile| tile.height));
    let columns = most(|tile| tile.variants.len() + usize::from(tile.original.is_some()));
    3 * cell * (answer.tiles.len() * columns) as u64
}

/// One picture of them all: a row for each tile, the original first.
///
/// # Errors
/// `not_acceptable`, when the format cannot have the size of the picture.
pub fn sheet(answer: &Answer, format: ImageFormat) -> Result<Vec<u8>, Error> {
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
        .map_err(|error| no_such_picture(&error))
}

fn picture(answer: &Answer, tile: &AnsweredTile, variant: &MadeVariant) -> RgbImage {
    RgbImage { width: tile.width, height: tile.height, pixels: answer.pixels_of(variant).to_vec() }
}
