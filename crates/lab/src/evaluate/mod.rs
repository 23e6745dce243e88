//! `evaluate`: how well a bundle reconstructs and re-stains images that it was not trained on,
//! compared with techniques that need no training.
//!
//! For every ordered pair of domains, every `Technique` gives each tile of the first domain the
//! stain of a random tile of the second. `pairs` measures colour, structure, nuclei and anatomy;
//! `judge` measures with a classifier of domains; `diversity` compares the variants of one tile;
//! `stains` compares variants with an exact target, and `sizes` those of larger tiles; `failures`
//! tries white, ink and blur;
//! `reconstruction` measures the model alone. `report` holds the figures, `table` and `page` render
//! them. There are no thresholds: `evaluate` reports, and the reader decides.

mod diversity;
mod failures;
mod judge;
mod page;
mod pairs;
mod pictures;
mod reconstruction;
mod report;
mod sizes;
mod split;
mod stains;
mod table;
mod technique;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

use crate::card;
use crate::encodings::{Encoded, Model, Sampled, sample_tiles};
use crate::phase::Phase;
use crate::samples;
use crate::{exemplars, styles};
use judge::Judge;
use pairs::Compared;
use report::{Edges, Report};
use restain_bundle::Precision;
use restain_data::BundleDataArgs;
use restain_data::Dataset;
use restain_method::Style;
use restain_method::metrics::BlockEdges;
use restain_options::{at_least, within};
use split::Held;
use technique::Technique;

/// The options of `evaluate`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Evaluation")]
pub struct EvaluateArgs {
    /// The bundle and the images.
    #[command(flatten)]
    pub on: BundleDataArgs,
    /// Evaluate this many tiles of each domain, cut on a grid
    #[arg(long, value_name = "TILES", default_value_t = 25, value_parser = at_least(1usize))]
    pub tiles_per_domain: usize,
    /// Run the bundle's encoder of this precision: fp32, fp16 or int8
    #[arg(long, value_name = "PRECISION", default_value = "fp32")]
    pub encoder: Precision,
    /// Compare these methods; repeat, or separate by commas [default: all]
    #[arg(long, value_name = "METHOD", value_enum, value_delimiter = ',')]
    pub methods: Vec<Technique>,
    /// Average this many of a tile's most representative tokens for a style
    #[arg(long, value_name = "TOKENS", default_value_t = 1, value_parser = at_least(1usize))]
    pub style_tokens: usize,
    /// Average the tokens of this many tiles for a style; the other methods see all of these tiles
    /// too
    #[arg(long, value_name = "TILES", default_value_t = 1, value_parser = at_least(1usize))]
    pub style_tiles: usize,
    /// Measure the diversity of this many variants of each tile
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = at_least(2usize))]
    pub variants: usize,
    /// Compare variants with exact targets on the images, shrunk to 1/N of their sides for each of
    /// these N
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1],
        value_parser = clap::value_parser!(u32).range(1..=16))]
    pub shrink: Vec<u32>,
    /// Size of the images' pixels, µm: tiles of every size are also restained with it, as by
    /// `mpp` in a request [default: what TIFF files state]
    #[arg(long, value_name = "MICRONS", value_parser = within(0.01, 100.0))]
    pub mpp: Option<f64>,
    /// Draw tiles and styles from this seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Train the classifier of domains on these other images, such as the training ones [default:
    /// part of the evaluated images]
    #[arg(long, help_heading = "Classifier of domains", value_name = "DIR")]
    pub classifier_data: Option<PathBuf>,
    /// Train the classifier of domains on this many tiles of each, cut at random
    #[arg(long, help_heading = "Classifier of \
        domains", value_name = "TILES", default_value_t = 200, value_parser = at_least(5usize))]
    pub classifier_tiles: usize,
    /// Train the classifier of domains for this many passes
    #[arg(long, help_heading = "Classifier of \
        domains", value_name = "EPOCHS", default_value_t = 12, value_parser = at_least(1u64))]
    pub classifier_epochs: u64,
    /// Print every pair of domains too
    #[arg(long, help_heading = "Report")]
    pub pairs: bool,
    /// Write the report to this file as JSON
    #[arg(long, help_heading = "Report", value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report to this file as an HTML page with pictures; it embeds tiles of the
    /// evaluated images
    #[arg(long, help_heading = "Report", value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Put the figures, samples.png and a model card with them into the bundle
    #[arg(long, help_heading = "Report")]
    pub record: bool,
}

/// The evaluated tiles of a domain.
pub(crate) struct Domain {
    pub name: String,
    pub tiles: Vec<Encoded>,
    /// Each tile's most representative patch.
    pub patches: Vec<usize>,
    /// The style of each tile.
    pub styles: Vec<Style>,
    /// Whether the judge was not trained on the tile, so that it may judge it.
    pub judged: Vec<bool>,
}

/// Runs `evaluate`: prints the tables, and writes what `--json`, `--html` and `--record` ask for.
///
/// # Errors
/// If an option is out of range, the data set or the bundle cannot be opened, or a file cannot be
/// written.
pub fn evaluate(args: &EvaluateArgs) -> Result<()> {
    let args = &args.clone().ordered();
    let dataset = Dataset::open(&args.on.data, &args.on.selection.selection())?;
    let mut model = Model::open(&args.on.bundle, args.encoder)?;
    let (mut domains, sampled) = domains(&mut model, &dataset, args)?;
    let (judge, no_judge) = train_judge(&model, &dataset, &sampled, &mut domains, args)?;
    let stains = stains::measure(&mut model, &dataset, args)?;
    let sizes = sizes::measure(&mut model, &dataset, args)?;
    let mut report = measure(&mut model, &domains, judge.as_ref(), args)?;
    (report.no_judge, report.stains, report.sizes) = (no_judge, stains, sizes);
    println!("{}", table::markdown(&report, args.pairs));
    if let Some(left_out) = dataset.left_out() {
        tracing::info!("{}: {left_out}", args.on.data.display());
    }
    write(args, &mut model, &domains, &report)?;
    if args.record {
        record(args, &mut model, &dataset, &report)?;
    }
    Ok(())
}

impl EvaluateArgs {
    /// Returns the options with every technique once, in the order of the tables.
    fn ordered(mut self) -> Self {
        if self.methods.is_empty() {
            self.methods = Technique::ALL.to_vec();
        }
        self.methods.sort();
        self.methods.dedup();
        self
    }
}

/// Samples and encodes tiles of every domain, and computes their styles. Returns the samples as
/// well.
fn domains(
    model: &mut Model,
    dataset: &Dataset,
    args: &EvaluateArgs,
) -> Result<(Vec<Domain>, Vec<Vec<Sampled>>)> {
    let (mut domains, mut all) = (Vec::new(), Vec::new());
    let phase = Phase::start("domains encoded", dataset.domains.len());
    for (domain, name) in dataset.domains.iter().enumerate() {
        let sampled = sample_tiles(model, dataset, domain, args.tiles_per_domain, 0.0, args.seed)?;
        ensure!(!sampled.is_empty(), "domain {name} has no tiles");
        if sampled.len() < args.tiles_per_domain {
            tracing::warn!(
                "domain {name} has {} tiles, fewer than --tiles-per-domain {}: all are used",
                sampled.len(),
                args.tiles_per_domain
            );
        }
        let tiles = model.encode(sampled.iter().map(|sampled| sampled.tile.clone()).collect())?;
        let lent: Vec<(usize, Style)> = tiles
            .par_iter()
            .map(|tile| {
                let patches = exemplars::representatives(model, tile, args.style_tokens);
                (
                    patches[0],
                    exemplars::mean(
                        &patches
                            .iter()
                            .map(|&patch| exemplars::style_of(model, tile, patch))
                            .collect::<Vec<_>>(),
                    ),
                )
            })
            .collect();
        let (patches, styles) = lent.into_iter().unzip();
        domains.push(Domain {
            name: name.clone(),
            judged: vec![false; tiles.len()],
            tiles,
            patches,
            styles,
        });
        all.push(sampled);
        phase.advance(1);
    }
    Ok((domains, all))
}

/// Trains the judge and marks the tiles that it may judge, or returns the reason why there is no
/// judge.
fn train_judge(
    model: &Model,
    dataset: &Dataset,
    sampled: &[Vec<Sampled>],
    domains: &mut [Domain],
    args: &EvaluateArgs,
) -> Result<(Option<Judge>, Option<String>)> {
    let held = Held { dataset, sampled, side: model.synth.geometry().image_size() };
    match held.split(args)? {
        Ok(split) => {
            let _phase = Phase::start("classifier of domains trained", 1);
            let judge = Judge::train(&split, domains.len(), args)?;
            domains
                .iter_mut()
                .zip(split.judged)
                .for_each(|(domain, judged)| domain.judged = judged);
            Ok((Some(judge), None))
        }
        Err(reason) => {
            tracing::warn!("no classifier of domains: {reason}");
            Ok((None, Some(reason)))
        }
    }
}

fn measure(
    model: &mut Model,
    domains: &[Domain],
    judge: Option<&Judge>,
    args: &EvaluateArgs,
) -> Result<Report> {
    let (reconstruction, own_edges): (Vec<_>, Vec<_>) =
        domains.iter().map(|domain| reconstruction::reconstruct(model, domain)).unzip();
    let compared = pairs::compare(model, domains, judge, args)?;
    let phase = Phase::start("diversity of variants measured", 1);
    let diversity = diversity::measure(model, domains, args);
    drop(phase);
    let failures = failures::measure(model, domains, args)?;
    Ok(Report {
        encoder: args.encoder.to_string(),
        tiles_per_domain: args.tiles_per_domain,
        seed: args.seed,
        style_tokens: args.style_tokens,
        style_tiles: args.style_tiles,
        reconstruction,
        mean: pairs::summary(&compared),
        diversity,
        block_edges: domains
            .iter()
            .enumerate()
            .map(|(i, domain)| edges(domain, own_edges[i], i, &compared, args))
            .collect(),
        pairs: compared.into_iter().map(|compared| compared.pair).collect(),
        judge: judge.map(|judge| judge.report.clone()),
        no_judge: None,
        stains: Vec::new(),
        sizes: Vec::new(),
        failures,
    })
}

/// Computes the blocking artefact of a domain's tiles, their reconstructions, and their variants in
/// all other styles.
fn edges(
    domain: &Domain,
    [real, reconstruction]: [BlockEdges; 2],
    index: usize,
    compared: &[Compared],
    args: &EvaluateArgs,
) -> Edges {
    let of = |method: &Technique| {
        let mut sum = BlockEdges::default();
        compared
            .iter()
            .filter(|compared| compared.from == index)
            .for_each(|compared| sum.merge(&compared.edges[method]));
        (*method, sum.ratio())
    };
    let variants =
        if compared.is_empty() { BTreeMap::new() } else { args.methods.iter().map(of).collect() };
    Edges {
        domain: domain.name.clone(),
        real: real.ratio(),
        reconstruction: reconstruction.ratio(),
        variants,
    }
}

/// Writes `--json` and `--html`.
fn write(
    args: &EvaluateArgs,
    model: &mut Model,
    domains: &[Domain],
    report: &Report,
) -> Result<()> {
    let cannot = |path: &PathBuf| format!("cannot write {}", path.display());
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(report)?)
            .with_context(|| cannot(path))?;
    }
    if let Some(path) = &args.html {
        let pictures = pictures::draw(model, domains, args)?;
        std::fs::write(path, page::render(&model.bundle.manifest, report, &pictures))
            .with_context(|| cannot(path))?;
    }
    Ok(())
}

/// Writes the figures, samples and a new card into the bundle (`--record`). Pairs are kept for the
/// model and `color-match` only, failures not at all.
fn record(
    args: &EvaluateArgs,
    model: &mut Model,
    dataset: &Dataset,
    report: &Report,
) -> Result<()> {
    let mut kept = report.clone();
    kept.failures.clear();
    kept.pairs.iter_mut().for_each(|pair| {
        pair.methods.retain(|method, _| [Technique::Vit, Technique::ColorMatch].contains(method))
    });
    let samples = samples::png(&samples::render(model, dataset, args.seed)?)?;
    let mut draft = styles::open_draft(&args.on.bundle)?;
    ensure!(
        draft.manifest == model.bundle.manifest,
        "{} was replaced while it was evaluated: evaluate it again to record the figures",
        args.on.bundle.display()
    );
    draft.manifest.quality = serde_json::to_value(&kept)?;
    draft.manifest.quality["table"] = table::markdown(report, false).into();
    draft.add(samples::SAMPLES_FILE, &samples)?;
    card::add(&mut draft)?;
    draft.publish()?;
    Ok(())
}
