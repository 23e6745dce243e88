//! What `evaluate` found, as `--json` writes it and as a bundle's `quality` keeps it. Figures only; nothing is measured here.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::evaluate::technique::Method;

#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub encoder: String,
    pub tiles_per_domain: usize,
    pub seed: u64,
    /// Tokens of a tile, and tiles of a domain, that a style is the mean of.
    pub style_tokens: usize,
    pub style_tiles: usize,
    pub reconstruction: Vec<Reconstruction>,
    pub pairs: Vec<Pair>,
    /// None where there is one domain only.
    pub mean: Option<Summary>,
    /// None where there is one domain only.
    pub diversity: Option<BTreeMap<Method, Diversity>>,
    /// By domain: the share of its tiles' grid. Variants are of its tiles.
    pub block_edges: Vec<Edges>,
    pub judge: Option<JudgeReport>,
    /// Why there is no judge.
    pub no_judge: Option<String>,
    pub failures: Vec<Failure>,
}

/// Means over the tiles of one domain. dB, 8-bit. A ceiling is what the rank allows; null where it limits nothing.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reconstruction {
    pub domain: String,
    pub psnr_db: f64,
    pub ssim: f64,
    /// Every patch with a basis of its own, as in a reconstruction.
    pub ceiling_psnr_db: Option<f64>,
    /// One basis for the whole tile.
    pub ceiling_shared_psnr_db: Option<f64>,
    /// The basis of one patch of another tile, as under a broadcast style; null with one tile too.
    pub ceiling_broadcast_psnr_db: Option<f64>,
}

/// One ordered pair of domains. Distances in levels of 255.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pair {
    pub from: String,
    pub to: String,
    pub distance_before: f64,
    #[serde(flatten)]
    pub methods: BTreeMap<Method, Scores>,
}

/// What is not defined, or not measured, is null.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Scores {
    /// Mean per-channel Wasserstein distance between all pixels of the variants and of the second domain.
    pub distance: f64,
    /// It, as a share of the distance before.
    pub left: f64,
    /// Between the tile and its variant.
    pub ssim: f64,
    /// Agreement of the pixels marked as haematoxylin in the tile and in its variant.
    pub dice: f64,
    /// Mean squared difference of the anatomy of variant and tile ÷ that of two different tiles of the domain.
    pub anatomy_drift: f64,
    /// Between features of the variants and of the second domain's tiles.
    pub frechet: Option<f64>,
    pub kid: Option<f64>,
    pub taken_for: Option<TakenFor>,
}

/// Shares of the variants that the judge takes for each domain.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct TakenFor {
    pub target: f64,
    pub source: f64,
    pub other: f64,
}

/// Over all pairs: `left` is mean distance after ÷ mean distance before.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub distance_before: f64,
    #[serde(flatten)]
    pub methods: BTreeMap<Method, Scores>,
}

/// Means over pairs of variants of one tile in styles of other domains.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Diversity {
    /// Mean per-channel Wasserstein distance, levels of 255.
    pub color_distance: f64,
    /// 1 − SSIM.
    pub dissimilarity: f64,
}

/// Mean step across borders of patches ÷ mean step inside them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Edges {
    pub domain: String,
    pub real: f64,
    pub reconstruction: f64,
    pub variants: BTreeMap<Method, f64>,
}

/// The classifier that tells domains apart.
#[derive(Clone, Debug, Serialize)]
pub(super) struct JudgeReport {
    /// What it was trained on, in words.
    pub trained_on: String,
    pub training_tiles: usize,
    pub held_out_tiles: usize,
    /// On real tiles that it was not trained on.
    pub accuracy: f64,
    /// Counts of those: row the domain, column what it was taken for.
    pub confusion: Vec<Vec<usize>>,
    /// Variants of each pair that it could be asked about: those of tiles that it was not trained on.
    pub judged_tiles: Vec<usize>,
}

/// What comes out of tiles that no method was made for, mean over domains, each in the style of the next.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failure {
    pub kind: String,
    pub method: Method,
    /// Share of values that are 0 or 255.
    pub clipped: f64,
    /// The same, before.
    pub clipped_before: f64,
    pub ssim: f64,
    /// Mean level after less mean level before.
    pub level_change: f64,
    /// Of what the ink changed in the variant, the share that lies where the ink is.
    pub ink_in_place: Option<f64>,
    /// Mean change of the ink's pixels, levels of 255.
    pub ink_change: Option<f64>,
}
