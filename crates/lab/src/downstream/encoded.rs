//! Encodings of training tiles, and the stains of the tiles that --target-styles sets aside.

use anyhow::{Result, ensure};
use half::f16;
use rayon::prelude::*;

use crate::classifier::Tiles;
use crate::downstream::looks::{Look, Looks};
use crate::encodings::{Encoded, Model};
use crate::exemplars::{mean, representative, style_of, tissue_mean};
use restain_bundle::codec::{RgbImage, resize};
use restain_method::color::ChannelStats;
use restain_method::synth::Synthesiser;
use restain_method::upsample::Upsampler;
use restain_method::{Style, exemplar};

/// Tiles between two log lines.
const ENCODED_AT_ONCE: usize = 256;

/// The encodings of the training tiles, and what turns them into variants.
pub(super) struct Encodings {
    pub synth: Synthesiser,
    pub upsampler: Upsampler,
    pub tiles: Vec<Halves>,
}

/// What is kept of one tile.
pub(super) struct Halves {
    /// f16 [N, h] and [N, S].
    pub anatomy: Vec<f16>,
    pub characteristics: Vec<f16>,
    /// Whether it takes a style: one that is blank, black, flat or pen does not.
    pub has_stain: bool,
}

impl Encodings {
    /// Encodes every tile and keeps both halves. Returns also the style of each tile, or none
    /// unless `styled`.
    pub(super) fn of(tiles: &Tiles, styled: bool, model: &mut Model) -> Result<(Self, Vec<Style>)> {
        let (side, of_model) = (tiles.side, model.synth.geometry().image_size());
        let (mut kept, mut styles) = (Vec::new(), Vec::new());
        // In chunks: an encoding takes four times the memory of what is kept of it.
        for chunk in tiles.pixels.chunks(ENCODED_AT_ONCE) {
            let encoded = encode(model, chunk, side)?;
            let half = |of: &[f32]| of.iter().map(|&value| f16::from_f32(value)).collect();
            kept.extend(encoded.iter().zip(chunk).map(|(tile, pixels)| Halves {
                anatomy: half(&tile.anatomy),
                characteristics: half(&tile.characteristics),
                has_stain: exemplar::has_stain(pixels, side, exemplar::STAIN_SQUARE),
            }));
            if styled {
                let model = &*model;
                let own = |tile: &Encoded| style_of(model, tile, representative(model, tile));
                styles.par_extend(encoded.par_iter().map(own));
            }
            tracing::info!("encoded {} of {} training tiles", kept.len(), tiles.len());
        }
        let upsampler = Upsampler::new((of_model, of_model), (side, side));
        Ok((Self { synth: model.synth.clone(), upsampler, tiles: kept }, styles))
    }
}

/// Returns the stains of unlabelled tiles of each test domain: of each tile that holds one, with
/// those that follow, up to `together` of them, the channel statistics and, given a model, the mean
/// characteristics of the tissue, which is what a style of a bank is.
pub(super) fn target_looks(
    domains: &[Tiles],
    together: usize,
    mut model: Option<&mut Model>,
) -> Result<Looks> {
    let mut looks = Vec::new();
    for Tiles { pixels, side, .. } in domains {
        let stained: Vec<Vec<u8>> = pixels
            .iter()
            .filter(|tile| exemplar::has_stain(tile, *side, exemplar::STAIN_SQUARE))
            .cloned()
            .collect();
        let styles: Vec<Style> = match &mut model {
            Some(model) => {
                let encoded = encode(model, &stained, *side)?;
                let style = |tile: &Encoded| tissue_mean(model, std::slice::from_ref(tile));
                encoded.iter().map(style).collect()
            }
            None => vec![Style(Vec::new()); stained.len()],
        };
        let look = |first: usize| {
            let members = first..first + together.min(stained.len());
            let members: Vec<usize> = members.map(|place| place % stained.len()).collect();
            let stats = ChannelStats::from_tiles(members.iter().map(|&tile| &stained[tile][..]));
            let styles: Vec<Style> = members.iter().map(|&tile| styles[tile].clone()).collect();
            Look { stats, style: mean(&styles) }
        };
        looks.push((0..stained.len()).map(look).collect());
    }
    ensure!(
        looks.iter().any(|of_domain: &Vec<Look>| !of_domain.is_empty()),
        "--target-styles: no tile that was set aside has a stain; all are blank, black, flat or pen"
    );
    Ok(Looks::of_domains(looks))
}

/// Encodes square tiles of any size.
fn encode(model: &mut Model, tiles: &[Vec<u8>], side: usize) -> Result<Vec<Encoded>> {
    let of_model = model.synth.geometry().image_size();
    model.encode(tiles.par_iter().map(|tile| resized(tile, side, of_model)).collect())
}

/// Resizes a square tile, u8 [from, from, 3] → u8 [to, to, 3], as the server does.
fn resized(tile: &[u8], from: usize, to: usize) -> Vec<u8> {
    if from == to {
        return tile.to_vec();
    }
    resize(&RgbImage { width: from, height: from, pixels: tile.to_vec() }, to, to).pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_another_size_come_back_at_their_own() {
        let tile: Vec<u8> = [90, 120, 150].repeat(36);
        assert_eq!(resized(&resized(&tile, 6, 9), 9, 6), tile);
        assert_eq!(resized(&tile, 6, 9).len(), 9 * 9 * 3);
    }
}
