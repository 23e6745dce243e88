//! The pictures of the page: one tile of every domain in every domain's stain, by every technique;
//! and spoiled tiles.

use anyhow::Result;
use image::{Rgb, RgbImage, imageops};

use crate::encodings::{Encoded, Model};
use crate::evaluate::failures::{Kind, showpiece};
use crate::evaluate::technique::{Reference, Technique, draws};
use crate::evaluate::{Domain, EvaluateArgs};
use crate::samples::png;

/// Pixels between tiles.
const GAP: u32 = 4;
/// First stream of the seed that nothing else uses.
const STREAM: u64 = 1 << 28;

/// The pictures, as PNG files.
pub(super) struct Pictures {
    /// Rows are domains of the tissue, columns domains of the stain.
    pub matrices: Vec<(Technique, Vec<u8>)>,
    /// A spoiled tile, then its variant by every technique; empty with one domain.
    pub strips: Vec<(Kind, Vec<u8>)>,
}

pub(super) fn draw(model: &mut Model, domains: &[Domain], args: &EvaluateArgs) -> Result<Pictures> {
    let shown: Vec<usize> = domains.iter().map(|domain| showpiece(model, domain)).collect();
    let references: Vec<Reference> =
        domains.iter().zip(&shown).map(|(domain, &tile)| Reference::of(domain, &[tile])).collect();
    let mut matrices = Vec::new();
    for &method in &args.methods {
        let rows = domains.iter().zip(&shown).enumerate().map(|(row, (domain, &tile))| {
            let content = &domain.tiles[tile];
            let cell = |column: usize| {
                if method == Technique::Vit && row == column {
                    return reconstruction(model, content);
                }
                method.apply(
                    &model.synth,
                    content,
                    &references[column],
                    &mut draws(args.seed, STREAM + column as u64, row),
                )
            };
            (0..domains.len()).map(cell).collect()
        });
        matrices.push((method, png(&grid(&rows.collect::<Vec<_>>(), model))?));
    }
    let mut strips = Vec::new();
    if let [first, _, ..] = domains {
        let side = model.synth.geometry().image_size();
        for kind in Kind::ALL {
            let spoiled =
                model.encode(vec![kind.spoil(&first.tiles[shown[0]].tile, side)])?.remove(0);
            let by = |method: &Technique| {
                method.apply(
                    &model.synth,
                    &spoiled,
                    &references[1],
                    &mut draws(args.seed, STREAM, 0),
                )
            };
            let row =
                std::iter::once(spoiled.tile.clone()).chain(args.methods.iter().map(by)).collect();
            strips.push((kind, png(&grid(&[row], model))?));
        }
    }
    Ok(Pictures { matrices, strips })
}

fn reconstruction(model: &Model, content: &Encoded) -> Vec<u8> {
    let mut out = vec![0; content.tile.len()];
    model.synth.aligned(
        &content.anatomy,
        &content.characteristics,
        &mut model.synth.scratch(),
        &mut out,
    );
    out
}

/// Draws rows of tiles, u8 `[H, W, 3]` each, with white gaps.
fn grid(rows: &[Vec<Vec<u8>>], model: &Model) -> RgbImage {
    let side = model.synth.geometry().image_size() as u32;
    let along = |count: usize| count as u32 * (side + GAP) - GAP;
    let mut canvas = RgbImage::from_pixel(along(rows[0].len()), along(rows.len()), Rgb([255; 3]));
    for (y, row) in rows.iter().enumerate() {
        for (x, tile) in row.iter().enumerate() {
            let tile = RgbImage::from_raw(side, side, tile.clone()).expect("a tile's bytes");
            imageops::replace(
                &mut canvas,
                &tile,
                x as i64 * i64::from(side + GAP),
                y as i64 * i64::from(side + GAP),
            );
        }
    }
    canvas
}
