//! The style bank of a bundle: one style from each of a number of tiles a domain, chosen as [`exemplar`] says.

use anyhow::{Result, ensure};
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::encoded::{Encoded, Model, sample_tiles};
use restain_bundle::{BundleEditor, Precision, StyleBank, rewrite};
use restain_data::BundleDataArgs;
use restain_data::{Dataset, normal};
use restain_method::color::ChannelStats;
use restain_method::exemplar::{self, ENOUGH_TISSUE};
use restain_method::{Geometry, Style};

/// One tile in this many more than wanted is drawn, so that as many of unusual colour can be left out.
const SPARE: usize = 4;

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Styles")]
pub struct StylesArgs {
    #[command(flatten)]
    pub on: BundleDataArgs,
    /// Take this many styles of each domain
    #[arg(long, value_name = "STYLES", default_value_t = 64)]
    pub per_domain: usize,
    /// Draw tiles from this seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

pub fn styles(args: &StylesArgs) -> Result<()> {
    let dataset = Dataset::open(&args.on.data, &args.on.selection.selection())?;
    let mut model = Model::open(&args.on.bundle, Precision::Fp32)?;
    let bank = build(&mut model, &dataset, args.per_domain, args.seed)?;
    let bundle = rewrite(&args.on.bundle, |editor: &mut BundleEditor| -> Result<()> {
        Ok(editor.set_styles(&bank)?)
    })?;
    tracing::info!(
        "{} styles of {} domains in {}",
        bundle.styles.entries.len(),
        bundle.styles.domains.len(),
        args.on.bundle.display()
    );
    Ok(())
}

/// A style from each of up to `per_domain` tiles of every domain.
pub fn build(
    model: &mut Model,
    dataset: &Dataset,
    per_domain: usize,
    seed: u64,
) -> Result<StyleBank> {
    let mut bank = StyleBank::default();
    for (domain, name) in dataset.domains.iter().enumerate() {
        let tiles = sample_tiles(
            model,
            dataset,
            domain,
            per_domain + per_domain / SPARE,
            ENOUGH_TISSUE,
            seed,
        )?;
        ensure!(
            !tiles.is_empty(),
            "no tile of domain {name} is half tissue or more: it can give no style"
        );
        let typical = exemplar::typical(&tiles, per_domain);
        let tiles = typical.into_iter().map(|index| tiles[index].tile.clone()).collect();
        for encoded in model.encode(tiles)? {
            let token = representative(model, &encoded);
            bank.push(
                name,
                style_of(model, &encoded, token),
                ChannelStats::from_tile(&encoded.tile),
            );
        }
    }
    Ok(bank)
}

/// Refuses a domain of which no tile could give a style.
pub fn require_tissue(dataset: &Dataset, geometry: &Geometry) -> Result<()> {
    for (domain, name) in dataset.domains.iter().enumerate() {
        let mut sources = dataset.sources.iter().filter(|source| source.domain == domain);
        let has_tissue = |tiles: Vec<RgbImage>| {
            tiles.iter().any(|tile| exemplar::is_tissue(geometry, tile, ENOUGH_TISSUE))
        };
        let found = sources.try_fold(false, |found, source| {
            Ok::<_, anyhow::Error>(
                found || has_tissue(dataset.grid_tiles(source, geometry.image_size())?),
            )
        });
        ensure!(found?, "no tile of domain {name} is half tissue or more: it can give no style");
    }
    Ok(())
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
    exemplar::style_of(model.synth.geometry(), &encoded.characteristics, patch)
}

/// The mean of some styles.
///
/// # Panics
/// When there is none, or they are of different lengths.
pub fn mean(styles: &[Style]) -> Style {
    let weighted: Vec<(f32, &Style)> = styles.iter().map(|style| (1.0, style)).collect();
    Style::blend(&weighted).expect("styles of one model, and at least one")
}

/// Up to `count` tissue patches, those whose styles give their own tile back best; any where nothing is tissue.
pub fn representatives(model: &Model, encoded: &Encoded, count: usize) -> Vec<usize> {
    exemplar::most_representative(
        &model.synth,
        &encoded.tile,
        &encoded.anatomy,
        &encoded.characteristics,
        count,
    )
}

/// The tissue patch whose style gives its own tile back best; any patch where nothing is tissue.
pub fn representative(model: &Model, encoded: &Encoded) -> usize {
    exemplar::representative(
        &model.synth,
        &encoded.tile,
        &encoded.anatomy,
        &encoded.characteristics,
    )
}
