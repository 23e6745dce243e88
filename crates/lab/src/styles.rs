//! The style bank of a bundle: one style from each of some tiles of every domain, which
//! [`exemplar`] chooses.
//!
//! Styles are computed with the bundle's exported encoder, which will serve them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::encodings::{Model, sample_tiles};
use crate::exemplars::{representative, style_of};
use crate::samples::{self, SAMPLES_FILE};
use restain_bundle::{BundleDraft, Precision, StyleBank};
use restain_data::BundleDataArgs;
use restain_data::{Dataset, normal};
use restain_method::color::ChannelStats;
use restain_method::exemplar::{self, ENOUGH_TISSUE};
use restain_method::{Geometry, Style};

/// For every this many tiles wanted, one more is sampled, so that tiles of unusual colour can be left out.
const SPARE: usize = 4;

/// The options of `styles`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Styles")]
pub struct StylesArgs {
    /// The bundle and the images.
    #[command(flatten)]
    pub on: BundleDataArgs,
    /// Take this many styles of each domain
    #[arg(long, value_name = "STYLES", default_value_t = 64)]
    pub per_domain: usize,
    /// Draw tiles from this seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Runs `styles`: computes the bank and writes it into the bundle.
///
/// # Errors
/// If the data set or the bundle cannot be opened, or a domain has no tissue.
pub fn styles(args: &StylesArgs) -> Result<()> {
    let dataset = Dataset::open(&args.on.data, &args.on.selection.selection())?;
    let mut draft = open_draft(&args.on.bundle)?;
    add(&mut draft, &dataset, args.per_domain, args.seed)?;
    let bundle = draft.publish()?;
    tracing::info!(
        "{} styles of {} domains in {}",
        bundle.styles.entries.len(),
        bundle.styles.domains.len(),
        args.on.bundle.display()
    );
    Ok(())
}

/// Copies the bundle in `dir`, to be changed.
pub(crate) fn open_draft(dir: &Path) -> Result<BundleDraft> {
    BundleDraft::of(dir).with_context(|| format!("the bundle {}", dir.display()))
}

/// Writes styles of a data set into a draft, and `samples.png` of it where the draft has none; both are computed by the
/// draft's own encoder.
pub fn add(draft: &mut BundleDraft, dataset: &Dataset, per_domain: usize, seed: u64) -> Result<()> {
    let mut model = Model::of(draft.so_far()?, Precision::Fp32)?;
    draft.set_styles(build(&mut model, dataset, per_domain, seed)?)?;
    if !draft.manifest.files.contains_key(SAMPLES_FILE) {
        let samples = samples::render(&mut model, dataset, seed)?;
        draft.add(SAMPLES_FILE, &samples::png(&samples)?)?;
    }
    Ok(())
}

/// Computes a style from each of up to `per_domain` tiles of every domain. The same seed gives the same bank.
///
/// # Errors
/// If no tile of a domain is half tissue or more, an image cannot be read, or the encoder fails.
fn build(model: &mut Model, dataset: &Dataset, per_domain: usize, seed: u64) -> Result<StyleBank> {
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
            "no tile of domain {name} is half tissue or more, and a style needs one"
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

/// Checks that `build` will find a tile with enough tissue in every domain.
///
/// # Errors
/// If a domain has none; the error names it.
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
        ensure!(found?, "no tile of domain {name} is half tissue or more, and a style needs one");
    }
    Ok(())
}

/// Draws random styles of two domains, for untrained weights. They are standard normal, because characteristics come from
/// a LayerNorm.
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
