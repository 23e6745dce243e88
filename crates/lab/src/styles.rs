//! The style bank of a bundle: styles of the slides of every domain.
//!
//! A style is the mean characteristics of tissue over several tiles of one slide, because one tile
//! does not show whether its colours come from the stain of its slide or from its tissue. An image
//! of several tiles stands for a slide. Styles are computed with the bundle's exported encoder,
//! which will serve them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::card;
use crate::encodings::{Model, sample_of};
use crate::exemplars::tissue_mean;
use crate::familiar::{self, Microns, microns};
use crate::phase::Phase;
use crate::samples::{self, SAMPLES_FILE};
use restain_bundle::{BundleDraft, Precision, StyleBank};
use restain_data::BundleDataArgs;
use restain_data::{Dataset, Slide, normal};
use restain_method::color::ChannelStats;
use restain_method::exemplar::{self, ENOUGH_TISSUE};
use restain_method::{Geometry, Style};
use restain_options::at_least;

/// Tiles for a style where slides are unknown: the mean of many tiles of many slides would be the
/// mean of a domain.
const UNKNOWN_SLIDE_TILES: usize = 4;
/// For every this many tiles wanted, one more is sampled, so that tiles of unusual colour can be
/// left out.
const SPARE: usize = 4;

/// The options of `styles`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Styles")]
pub struct StylesArgs {
    /// The bundle and the images.
    #[command(flatten)]
    pub on: BundleDataArgs,
    /// Take at most this many styles of each domain, from its slides in turn
    #[arg(long, value_name = "STYLES", default_value_t = Wanted::default().per_domain,
        value_parser = at_least(1usize))]
    pub styles_per_domain: usize,
    /// Average this many tiles of a slide for a style; at most 4 where the slides of tiles are
    /// unknown
    #[arg(long, value_name = "TILES", default_value_t = Wanted::default().style_tiles,
        value_parser = at_least(1usize))]
    pub style_tiles: usize,
    /// Record that the model knows tiles of this magnification, µm a pixel of the images; or of
    /// several, from that of the images to the coarsest [default: as recorded, or what TIFF files
    /// state as OME, Aperio or a microscope's resolution]
    #[arg(long, value_name = "MICRONS", value_parser = microns)]
    pub mpp: Option<Microns>,
    /// Draw tiles from this seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// How many styles a bank has, and of how many tiles each is the mean.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Most styles of a domain.
    pub per_domain: usize,
    /// Tiles of a slide for a style.
    pub style_tiles: usize,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { per_domain: 64, style_tiles: 16 }
    }
}

/// Runs `styles`: computes the bank and writes it into the bundle.
///
/// # Errors
/// If the data set or the bundle cannot be opened, or a domain has no tissue.
pub fn styles(args: &StylesArgs) -> Result<()> {
    let dataset = Dataset::open(&args.on.data, &args.on.selection.selection())?;
    let mut draft = open_draft(&args.on.bundle)?;
    let wanted = Wanted { per_domain: args.styles_per_domain, style_tiles: args.style_tiles };
    let mpp = match args.mpp.or(draft.manifest.familiar.mpp) {
        None => stated(&dataset)?,
        known => known,
    };
    add(&mut draft, &dataset, (wanted, mpp), args.seed)?;
    card::add(&mut draft)?;
    let bundle = draft.publish()?;
    tracing::info!(
        "{} styles of {} domains in {}",
        bundle.styles.entries.len(),
        bundle.styles.domains.len(),
        args.on.bundle.display()
    );
    if let Some(left_out) = dataset.left_out() {
        tracing::info!("{}: {left_out}", args.on.data.display());
    }
    Ok(())
}

/// The magnification that the images' own files state.
fn stated(dataset: &Dataset) -> Result<Option<Microns>> {
    let stated = dataset.stated_microns()?;
    if let Some(stated) = stated {
        tracing::info!("{stated}");
    }
    Ok(stated.map(|stated| [stated.size; 2]))
}

/// Copies the bundle in `dir`, to be changed.
pub(crate) fn open_draft(dir: &Path) -> Result<BundleDraft> {
    BundleDraft::of(dir).with_context(|| format!("the bundle {}", dir.display()))
}

/// Writes styles of a data set into a draft, what the model makes of its tiles, and `samples.png`
/// of it where the draft has none; all are computed by the draft's own encoder. `mpp` are the
/// magnifications that it was trained on, where they are known.
pub fn add(
    draft: &mut BundleDraft,
    dataset: &Dataset,
    (wanted, mpp): (Wanted, Option<Microns>),
    seed: u64,
) -> Result<()> {
    let mut model = Model::of(draft.so_far()?, Precision::Fp32)?;
    draft.set_styles(build(&mut model, dataset, wanted, seed)?)?;
    draft.manifest.familiar = familiar::measure(&mut model, dataset, mpp, seed)?;
    if !draft.manifest.files.contains_key(SAMPLES_FILE) {
        let samples = samples::render(&mut model, dataset, seed)?;
        draft.add(SAMPLES_FILE, &samples::png(&samples)?)?;
    }
    Ok(())
}

/// Computes the styles of every domain, from its slides in turn. The same seed gives the same bank.
///
/// # Errors
/// If no tile of a domain is half tissue or more, an image cannot be read, or the encoder fails.
fn build(model: &mut Model, dataset: &Dataset, wanted: Wanted, seed: u64) -> Result<StyleBank> {
    let side = model.synth.geometry().image_size();
    let slides = dataset.slides(side);
    let phase = Phase::start("slides encoded for styles", slides.len());
    let mut bank = StyleBank::default();
    for (domain, name) in dataset.domains.iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(domain as u64);
        let of_domain: Vec<&Slide> = slides.iter().filter(|slide| slide.domain == domain).collect();
        let each = wanted.per_domain.div_ceil(of_domain.len().max(1));
        let mut groups = Vec::new();
        for slide in of_domain {
            phase.advance(1);
            let size = match slide.is_known {
                true => wanted.style_tiles,
                false => wanted.style_tiles.min(UNKNOWN_SLIDE_TILES),
            };
            let sources = slide.sources.clone();
            groups.push(groups_of(model, dataset, sources, (each, size), &mut rng)?);
        }
        ensure!(
            groups.iter().any(|groups| !groups.is_empty()),
            "no tile of domain {name} is half tissue or more, and a style needs one"
        );
        let in_turn = (0..each).flat_map(|turn| {
            groups.iter().filter_map(move |of_slide: &Vec<Vec<Vec<u8>>>| of_slide.get(turn))
        });
        for tiles in in_turn.take(wanted.per_domain) {
            let pixels = ChannelStats::from_tile(&tiles.concat());
            let encoded = model.encode(tiles.clone())?;
            bank.push(name, tissue_mean(model, &encoded), pixels);
        }
    }
    Ok(bank)
}

/// Samples up to `count` groups of `size` tiles of a slide, without replacement. A slide with fewer
/// tiles gives one group of them all. Tiles of unusual colour are left out.
fn groups_of(
    model: &Model,
    dataset: &Dataset,
    sources: Vec<usize>,
    (count, size): (usize, usize),
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Vec<Vec<u8>>>> {
    let wanted = count.saturating_mul(size);
    let sampled =
        sample_of(model, dataset, sources, (wanted + wanted / SPARE, ENOUGH_TISSUE), rng)?;
    let kept = match sampled.len() {
        few if few <= SPARE => few,
        all => (all - all / (SPARE + 1)).min(wanted),
    };
    let tiles: Vec<Vec<u8>> = exemplar::typical(&sampled, kept)
        .into_iter()
        .map(|index| sampled[index].tile.clone())
        .collect();
    let mut groups: Vec<Vec<Vec<u8>>> = tiles.chunks(size).map(<[Vec<u8>]>::to_vec).collect();
    if groups.len() > 1 && groups.last().is_some_and(|group| group.len() < size) {
        groups.pop();
    }
    Ok(groups)
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

/// Draws random styles of two domains, for untrained weights. They are standard normal, because
/// characteristics come from a LayerNorm; a style bias is zero, as untrained weights make it.
pub fn random(geometry: &Geometry, count: usize, seed: u64) -> StyleBank {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bank = StyleBank::default();
    for i in 0..count {
        let mut style = Style((0..geometry.half()).map(|_| normal(&mut rng) as f32).collect());
        style.0.resize(geometry.style_len(), 0.0);
        let source = ChannelStats { mean: [0.7, 0.5, 0.7], std: [0.15; 3] };
        bank.push(["random_a", "random_b"][i % 2], style, source);
    }
    bank
}
