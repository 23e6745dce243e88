//! `samples.png`: tissue of every domain in the style of every domain.
//!
//! Row i shows a crop of domain i, column j the style of domain j, broadcast; the diagonal shows
//! reconstructions. Every pixel is the model's own output, so that the picture shows what the model
//! does and may be published like its weights.

use std::io::Cursor;

use anyhow::{Context, Result};
use image::{ImageFormat, RgbImage, imageops};

use crate::encodings::{Encoded, Model};
use crate::exemplars::{representative, style_of};
use restain_data::Dataset;

/// The file of the grid in a bundle.
pub const SAMPLES_FILE: &str = "samples.png";
/// A crop is this many tiles wide and high.
const PIECE: u32 = 2;
/// White pixels between crops.
const GAP: u32 = 6;

/// Renders the grid for all domains of a data set. `seed` chooses the image of each domain.
///
/// # Errors
/// If no image of a domain can be decoded, or the encoder fails.
pub fn render(model: &mut Model, dataset: &Dataset, seed: u64) -> Result<RgbImage> {
    let side = model.synth.geometry().image_size() as u32;
    let mut pieces = Vec::new();
    for domain in 0..dataset.domains.len() {
        let sources: Vec<_> =
            dataset.sources.iter().filter(|source| source.domain == domain).collect();
        let from = seed as usize % sources.len();
        let readable = |i: usize| dataset.readable(sources[(from + i) % sources.len()]).transpose();
        let image = (0..sources.len()).find_map(readable).with_context(|| {
            format!("no image of domain {} can be decoded", dataset.domains[domain])
        })??;
        let piece = middle(image.as_ref(), side);
        let tiles = (0..PIECE * PIECE).map(|i| {
            imageops::crop_imm(&piece, i % PIECE * side, i / PIECE * side, side, side)
                .to_image()
                .into_raw()
        });
        pieces.push(model.encode(tiles.collect())?);
    }
    let styles: Vec<_> = pieces
        .iter()
        .map(|tiles| most_tissue(model, tiles))
        .map(|(tile, patch)| style_of(model, tile, patch))
        .collect();
    let cell = PIECE * side + GAP;
    let count = pieces.len() as u32;
    let mut canvas =
        RgbImage::from_pixel(count * cell - GAP, count * cell - GAP, image::Rgb([255; 3]));
    let (mut scratch, mut out) =
        (model.synth.scratch(), vec![0; model.synth.geometry().tile_bytes()]);
    for (row, tiles) in pieces.iter().enumerate() {
        for (column, style) in styles.iter().enumerate() {
            for (i, tile) in (0u32..).zip(tiles) {
                match row == column {
                    true => model.synth.aligned(
                        &tile.anatomy,
                        &tile.characteristics,
                        &mut scratch,
                        &mut out,
                    ),
                    false => model.synth.broadcast(&tile.anatomy, &style.0, &mut scratch, &mut out),
                }
                let variant = RgbImage::from_raw(side, side, out.clone()).expect("a tile's bytes");
                let (x, y) =
                    (column as u32 * cell + i % PIECE * side, row as u32 * cell + i / PIECE * side);
                imageops::replace(&mut canvas, &variant, x as i64, y as i64);
            }
        }
    }
    Ok(canvas)
}

/// Crops the middle of an image, `PIECE` tiles wide and high; enlarges a smaller image.
fn middle(image: &RgbImage, side: u32) -> RgbImage {
    let wanted = PIECE * side;
    if image.width() < wanted || image.height() < wanted {
        return imageops::resize(image, wanted, wanted, imageops::FilterType::CatmullRom);
    }
    imageops::crop_imm(
        image,
        (image.width() - wanted) / 2,
        (image.height() - wanted) / 2,
        wanted,
        wanted,
    )
    .to_image()
}

/// Returns the tile with most tissue, and its most representative patch.
fn most_tissue<'a>(model: &Model, tiles: &'a [Encoded]) -> (&'a Encoded, usize) {
    let tissue =
        |encoded: &&Encoded| model.tissue(&encoded.tile).into_iter().filter(|&t| t).count();
    let tile = tiles.iter().max_by_key(tissue).expect("a piece has tiles");
    (tile, representative(model, tile))
}

/// Encodes an image as PNG.
///
/// # Errors
/// If the image has no pixels.
pub fn png(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    Ok(bytes)
}
