//! The style bank of a bundle: one style from each of a number of tiles a domain.
//!
//! Of a tile's tissue tokens the most representative one is kept: the one whose characteristics, broadcast over the
//! tile's own anatomy, give the tile back best. Background says nothing about a stain, and neither does the odd token,
//! nor a tile that is far from its domain's usual colour.

use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::bundle::{BundleEditor, Precision, StyleBank, rewrite};
use crate::method::color::ChannelStats;
use crate::method::latent;
use crate::method::{Geometry, Style};
use crate::train::dataset::{Dataset, normal};
use crate::train::encoded::{Encoded, Model, sample_tiles};
use crate::train::options::BundleDataArgs;

/// Share of a tile's patches that must be tissue before a style is taken from it.
const TISSUE: f64 = 0.5;
/// One tile in this many more than wanted is drawn, so that as many of unusual colour can be left out.
const SPARE: usize = 4;

#[derive(Clone, Debug, clap::Args)]
pub struct StylesArgs {
    #[command(flatten)]
    pub on: BundleDataArgs,
    /// Styles of each domain
    #[arg(long, default_value_t = 64)]
    pub per_domain: usize,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

pub fn styles(args: &StylesArgs) -> Result<()> {
    let dataset = Dataset::open(&args.on.data, &args.on.selection.selection())?;
    let mut model = Model::open(&args.on.bundle, Precision::Fp32)?;
    let bank = build(&mut model, &dataset, args.per_domain, args.seed)?;
    let bundle = rewrite(&args.on.bundle, |editor: &mut BundleEditor| -> Result<()> { Ok(editor.set_styles(&bank)?) })?;
    tracing::info!("{} styles of {} domains in {}", bundle.styles.entries.len(), bundle.styles.domains.len(), args.on.bundle.display());
    Ok(())
}

/// A style from each of up to `per_domain` tiles of every domain.
pub fn build(model: &mut Model, dataset: &Dataset, per_domain: usize, seed: u64) -> Result<StyleBank> {
    let mut bank = StyleBank::default();
    for (domain, name) in dataset.domains.iter().enumerate() {
        let tiles = sample_tiles(model, dataset, domain, per_domain + per_domain / SPARE, TISSUE, seed)?;
        ensure!(!tiles.is_empty(), "no tile of domain {name} is half tissue or more: it can give no style");
        let tiles = typical(tiles, per_domain);
        for encoded in model.encode(tiles)? {
            let token = representative(model, &encoded);
            bank.push(name, style_of(model, &encoded, token), ChannelStats::from_tile(&encoded.tile));
        }
    }
    Ok(bank)
}

/// The `count` tiles whose mean colour is nearest to the median one, in their order: a tile full of blood or ink has no
/// stain that others should wear.
fn typical(tiles: Vec<Vec<u8>>, count: usize) -> Vec<Vec<u8>> {
    let means: Vec<[f32; 3]> = tiles.iter().map(|tile| ChannelStats::from_tile(tile).mean).collect();
    let median: [f32; 3] = std::array::from_fn(|channel| {
        let mut values: Vec<f32> = means.iter().map(|mean| mean[channel]).collect();
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    });
    let distance = |mean: &[f32; 3]| mean.iter().zip(median).map(|(value, middle)| (value - middle).powi(2)).sum::<f32>();
    let distances: Vec<f32> = means.iter().map(distance).collect();
    let mut nearest: Vec<usize> = (0..tiles.len()).collect();
    nearest.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]));
    nearest.truncate(count);
    tiles.into_iter().enumerate().filter(|(i, _)| nearest.contains(i)).map(|(_, tile)| tile).collect()
}

/// Random styles of two domains, for weights that were never trained. Characteristics come out of a LayerNorm: their
/// deviation is about 1.
pub fn random(geometry: &Geometry, count: usize, seed: u64) -> StyleBank {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bank = StyleBank::default();
    for i in 0..count {
        let style = Style((0..geometry.half()).map(|_| normal(&mut rng) as f32).collect());
        let source = ChannelStats { mean: [0.7, 0.5, 0.7], std: [0.15; 3] };
        bank.push(["random_a", "random_b"][i % 2], style, source);
    }
    bank
}

/// The characteristics of one patch.
pub fn style_of(model: &Model, encoded: &Encoded, patch: usize) -> Style {
    Style(latent::token(model.synth.geometry(), &encoded.characteristics, patch).to_vec())
}

/// The tissue patch whose style gives its own tile back best; any patch where nothing is tissue.
pub fn representative(model: &Model, encoded: &Encoded) -> usize {
    let (mut scratch, mut out) = (model.synth.scratch(), vec![0; encoded.tile.len()]);
    let tissue = model.tissue(&encoded.tile);
    let none = !tissue.contains(&true);
    let candidates = (0..tissue.len()).filter(|&patch| none || tissue[patch]);
    let mut error = |patch: usize| {
        model.synth.broadcast(&encoded.anatomy, &style_of(model, encoded, patch).0, &mut scratch, &mut out);
        out.iter().zip(&encoded.tile).map(|(&a, &b)| (a as i64 - b as i64).pow(2) as u64).sum::<u64>()
    };
    candidates.min_by_key(|&patch| error(patch)).expect("a tile has patches")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_unusual_colour_give_no_style() {
        let tile = |value: u8| vec![value; 12];
        let tiles = vec![tile(100), tile(250), tile(104), tile(98), tile(3)];
        assert_eq!(typical(tiles.clone(), 3), [tile(100), tile(104), tile(98)]);
        assert_eq!(typical(tiles.clone(), 9), tiles);
    }
}
