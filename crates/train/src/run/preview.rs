//! The sample grid of a run: one fixed tile of every domain in the style of every domain.
//!
//! Row i shows the tile of domain i, then the tile in the style of each domain j, broadcast from
//! its most representative patch; for i = j it shows the reconstruction. `restain_lab::samples`
//! draws a larger grid of a finished bundle.

use std::io::Cursor;

use anyhow::Result;
use image::{ImageFormat, RgbImage, imageops};

use crate::model::inference::encode;
use crate::model::vit::Vit;
use crate::run::checkpoint::RunHeader;
use crate::run::validate::tiles_in_turn;
use restain_data::Dataset;
use restain_method::exemplar::{representative, style_of, tissue};
use restain_method::synth::Synthesiser;

/// Only the first domains are shown, so that the picture stays readable.
const MOST_DOMAINS: usize = 8;
/// Of this many tiles of a domain, the one with most tissue is shown.
const LOOKED_AT: usize = 8;
/// White pixels between tiles.
const GAP: u32 = 2;

/// The tiles of the grid, u8 [H, W, 3] each.
pub(crate) struct Preview {
    tiles: Vec<Vec<u8>>,
}

impl Preview {
    /// Chooses one tile of each of the first domains.
    ///
    /// # Errors
    /// If more images are damaged than the data set allows.
    pub(crate) fn new(dataset: &Dataset, header: &RunHeader) -> Result<Self> {
        let geometry = &header.geometry;
        let count = LOOKED_AT * dataset.domains.len();
        let found = tiles_in_turn(dataset, geometry.image_size(), count, header.seed)?;
        let of =
            |domain: usize| found.iter().filter(move |(of, _)| *of == domain).map(|(_, tile)| tile);
        let full =
            |tile: &&Vec<u8>| tissue(geometry, tile).into_iter().filter(|&tissue| tissue).count();
        Ok(Self {
            tiles: (0..dataset.domains.len())
                .filter_map(|d| of(d).max_by_key(full).cloned())
                .take(MOST_DOMAINS)
                .collect(),
        })
    }

    /// Draws the grid with the current weights.
    ///
    /// # Errors
    /// If libtorch fails.
    pub(crate) fn render(&self, vit: &Vit, header: &RunHeader) -> Result<RgbImage> {
        let synth = Synthesiser::new(header.geometry, header.pixel_order, header.normalisation);
        let side = header.geometry.image_size() as u32;
        let mut halves = Vec::new();
        for tile in &self.tiles {
            let encodings = encode(vit, &header.normalisation, tile, 1)?;
            halves.push((encodings.anatomy, encodings.characteristics));
        }
        let styles = self.tiles.iter().zip(&halves).map(|(tile, (anatomy, characteristics))| {
            style_of(
                &header.geometry,
                characteristics,
                representative(&synth, tile, anatomy, characteristics),
            )
        });
        let styles: Vec<_> = styles.collect();
        let (rows, cell) = (self.tiles.len() as u32, side + GAP);
        let mut canvas =
            RgbImage::from_pixel((rows + 1) * cell - GAP, rows * cell - GAP, image::Rgb([255; 3]));
        let mut put = |column: usize, row: usize, pixels: Vec<u8>| {
            let tile = RgbImage::from_raw(side, side, pixels).expect("a tile's bytes");
            imageops::replace(
                &mut canvas,
                &tile,
                (column as u32 * cell).into(),
                (row as u32 * cell).into(),
            );
        };
        let mut scratch = synth.scratch();
        for (row, (tile, (anatomy, characteristics))) in self.tiles.iter().zip(&halves).enumerate()
        {
            put(0, row, tile.clone());
            for (column, style) in styles.iter().enumerate() {
                let mut out = vec![0; header.geometry.tile_bytes()];
                match row == column {
                    true => synth.aligned(anatomy, characteristics, &mut scratch, &mut out),
                    false => synth.broadcast(anatomy, &style.0, &mut scratch, &mut out),
                }
                put(column + 1, row, out);
            }
        }
        Ok(canvas)
    }
}

/// Encodes an image as PNG.
///
/// # Errors
/// If the image has no pixels.
pub(crate) fn png(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    Ok(bytes)
}
