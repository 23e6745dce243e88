//! `evaluate`: how well a bundle reconstructs, and how well it re-stains, with colour matching beside it.
//!
//! For every ordered pair of domains each tile of the first takes the style of a tile of the second, drawn by seed.
//! `vit` broadcasts that tile's most representative token; `color-match` uses its channel statistics. "Distance" is the
//! mean per-channel Wasserstein distance between all pixels of the variants and all of the second domain's tiles;
//! "left" is that distance as a share of the distance before.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

use crate::bundle::{BundleEditor, Precision, rewrite};
use crate::method::color::{ChannelStats, color_match};
use crate::method::metrics::{Ceiling, ColorHistogram, psnr, rank_ceiling_psnr, ssim};
use crate::train::card;
use crate::train::dataset::{Dataset, below};
use crate::train::encoded::{Encoded, Model, sample_tiles};
use crate::train::options::BundleDataArgs;
use crate::train::samples;
use crate::train::styles::{representative, style_of};

#[derive(Clone, Debug, clap::Args)]
pub struct EvaluateArgs {
    #[command(flatten)]
    pub on: BundleDataArgs,
    /// Tiles of each domain, cut on a grid
    #[arg(long, default_value_t = 25)]
    pub per_domain: usize,
    #[arg(long, default_value = "fp32")]
    pub encoder: Precision,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write the report here as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Put the figures, samples.png and a model card with them into the bundle
    #[arg(long)]
    pub record: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub encoder: String,
    pub tiles_per_domain: usize,
    pub seed: u64,
    pub reconstruction: Vec<Reconstruction>,
    pub pairs: Vec<Pair>,
    /// None where there is one domain only.
    pub mean: Option<Summary>,
}

/// Means over the tiles of one domain. dB, 8-bit.
#[derive(Clone, Debug, Serialize)]
pub struct Reconstruction {
    pub domain: String,
    pub psnr_db: f64,
    pub ssim: f64,
    /// What the rank allows; null where it limits nothing.
    pub ceiling_psnr_db: Option<f64>,
}

/// One ordered pair of domains. Distances in levels of 255.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    pub from: String,
    pub to: String,
    pub distance_before: f64,
    pub vit: Scores,
    pub color_match: Scores,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Scores {
    pub distance: f64,
    pub left: f64,
    /// Between the tile and its variant.
    pub ssim: f64,
}

/// Over all pairs: `left` is mean distance after ÷ mean distance before.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub distance_before: f64,
    pub vit: Scores,
    pub color_match: Scores,
}

pub fn evaluate(args: &EvaluateArgs) -> Result<()> {
    let dataset = Dataset::open(&args.on.data, &args.on.selection.selection())?;
    let mut model = Model::open(&args.on.bundle, args.encoder)?;
    let mut domains = Vec::new();
    for (domain, name) in dataset.domains.iter().enumerate() {
        let tiles = sample_tiles(&model, &dataset, domain, args.per_domain, 0.0, args.seed)?;
        ensure!(!tiles.is_empty(), "domain {name} has no tiles");
        domains.push((name.clone(), model.encode(tiles)?));
    }
    let report = measure(&model, &domains, args);
    println!("{}", table(&report));
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.record {
        let samples = samples::png(&samples::render(&mut model, &dataset, args.seed)?)?;
        rewrite(&args.on.bundle, |editor: &mut BundleEditor| -> Result<()> {
            editor.manifest.quality = serde_json::to_value(&report)?;
            editor.manifest.quality["table"] = table(&report).into();
            editor.add("samples.png", &samples)?;
            let card = card::render(&editor.manifest);
            Ok(editor.add(card::CARD_FILE, card.as_bytes())?)
        })?;
    }
    Ok(())
}

fn measure(model: &Model, domains: &[(String, Vec<Encoded>)], args: &EvaluateArgs) -> Report {
    let representatives: Vec<Vec<usize>> =
        domains.iter().map(|(_, tiles)| tiles.iter().map(|tile| representative(model, tile)).collect()).collect();
    let mut pairs = Vec::new();
    for from in 0..domains.len() {
        for to in (0..domains.len()).filter(|&to| to != from) {
            let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
            rng.set_stream((from * domains.len() + to) as u64);
            pairs.push(pair(model, &domains[from], &domains[to], &representatives[to], &mut rng));
        }
    }
    Report {
        encoder: args.encoder.to_string(),
        tiles_per_domain: args.per_domain,
        seed: args.seed,
        reconstruction: domains.iter().map(|(name, tiles)| reconstruction(model, name, tiles)).collect(),
        mean: summary(&pairs),
        pairs,
    }
}

fn reconstruction(model: &Model, name: &str, tiles: &[Encoded]) -> Reconstruction {
    let manifest = &model.bundle.manifest;
    let geometry = &manifest.geometry;
    let (mut scratch, mut out) = (model.synth.scratch(), vec![0; geometry.tile_bytes()]);
    let mut sums = [0.0; 3];
    for encoded in tiles {
        model.synth.aligned(&encoded.anatomy, &encoded.characteristics, &mut scratch, &mut out);
        let ceiling = rank_ceiling_psnr(&encoded.tile, geometry, manifest.pixel_order, &manifest.normalisation, Ceiling::PerPatch);
        let scores = [psnr(&encoded.tile, &out), ssim(&encoded.tile, &out, geometry.image_size(), geometry.image_size()), ceiling];
        sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score / tiles.len() as f64);
    }
    let [psnr_db, ssim, ceiling] = sums;
    Reconstruction { domain: name.to_owned(), psnr_db, ssim, ceiling_psnr_db: ceiling.is_finite().then_some(ceiling) }
}

fn pair(model: &Model, from: &(String, Vec<Encoded>), to: &(String, Vec<Encoded>), tokens: &[usize], rng: &mut ChaCha8Rng) -> Pair {
    let side = model.synth.geometry().image_size();
    let (mut scratch, mut out) = (model.synth.scratch(), vec![0; model.synth.geometry().tile_bytes()]);
    let histogram = |tiles: &[Encoded]| {
        let mut histogram = ColorHistogram::default();
        tiles.iter().for_each(|encoded| histogram.add(&encoded.tile));
        histogram
    };
    let (before, target) = (histogram(&from.1), histogram(&to.1));
    let mut made = [ColorHistogram::default(), ColorHistogram::default()];
    let mut similarity = [0.0; 2];
    for content in &from.1 {
        let chosen = below(rng, to.1.len() as u64) as usize;
        let style_tile = &to.1[chosen];
        for method in 0..2 {
            match method {
                0 => model.synth.broadcast(&content.anatomy, &style_of(model, style_tile, tokens[chosen]).0, &mut scratch, &mut out),
                _ => {
                    let stats = ChannelStats::from_tile;
                    color_match(&content.tile, &stats(&content.tile), &stats(&style_tile.tile), &mut out);
                }
            }
            made[method].add(&out);
            similarity[method] += ssim(&content.tile, &out, side, side) / from.1.len() as f64;
        }
    }
    let distance_before = before.wasserstein(&target);
    let scores = |method: usize| {
        let distance = made[method].wasserstein(&target);
        Scores { distance, left: distance / distance_before, ssim: similarity[method] }
    };
    Pair { from: from.0.clone(), to: to.0.clone(), distance_before, vit: scores(0), color_match: scores(1) }
}

fn summary(pairs: &[Pair]) -> Option<Summary> {
    if pairs.is_empty() {
        return None;
    }
    let mean = |of: fn(&Pair) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    let distance_before = mean(|pair| pair.distance_before);
    let scores = |distance: f64, ssim: f64| Scores { distance, left: distance / distance_before, ssim };
    Some(Summary {
        distance_before,
        vit: scores(mean(|pair| pair.vit.distance), mean(|pair| pair.vit.ssim)),
        color_match: scores(mean(|pair| pair.color_match.distance), mean(|pair| pair.color_match.ssim)),
    })
}

/// The report as a reader of a terminal, or of Markdown, wants it.
pub fn table(report: &Report) -> String {
    let mut lines = vec!["| domain | PSNR, dB | ceiling, dB | SSIM |".to_owned(), "|---|---|---|---|".to_owned()];
    for r in &report.reconstruction {
        let ceiling = r.ceiling_psnr_db.map_or("none".to_owned(), |db| format!("{db:.1}"));
        lines.push(format!("| {} | {:.1} | {ceiling} | {:.3} |", r.domain, r.psnr_db, r.ssim));
    }
    let Some(mean) = &report.mean else { return lines.join("\n") };
    lines.push(String::new());
    lines.push("| from → to | distance before | left, vit | SSIM, vit | left, color-match | SSIM, color-match |".to_owned());
    lines.push("|---|---|---|---|---|---|".to_owned());
    let row = |name: String, before: f64, vit: &Scores, matched: &Scores| {
        format!("| {name} | {before:.1} | {:.2} | {:.3} | {:.2} | {:.3} |", vit.left, vit.ssim, matched.left, matched.ssim)
    };
    lines.extend(report.pairs.iter().map(|p| row(format!("{} → {}", p.from, p.to), p.distance_before, &p.vit, &p.color_match)));
    lines.push(row("all pairs".to_owned(), mean.distance_before, &mean.vit, &mean.color_match));
    lines.join("\n")
}
