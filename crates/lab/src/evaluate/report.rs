//! The figures of `evaluate`, as `--json` writes them and as a bundle's `quality` keeps them.
//! Nothing is measured here.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::evaluate::technique::{Technique, Way};

#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub encoder: String,
    pub tiles_per_domain: usize,
    pub seed: u64,
    /// Tokens of a tile, and tiles of a domain, that a style is the mean of.
    pub style_tokens: usize,
    pub style_tiles: usize,
    pub reconstruction: Vec<Reconstruction>,
    /// By magnification, technique and way; empty if no image is two tiles a side.
    pub stains: Vec<StainFigures>,
    /// By magnification, size and technique; empty likewise.
    pub sizes: Vec<SizeFigures>,
    pub pairs: Vec<Pair>,
    /// `None` with one domain.
    pub mean: Option<Summary>,
    /// `None` with one domain.
    pub diversity: Option<BTreeMap<Technique, Diversity>>,
    /// The blocking artefact of each domain's tiles and of their variants.
    pub block_edges: Vec<Edges>,
    pub judge: Option<JudgeReport>,
    /// The reason why there is no judge.
    pub no_judge: Option<String>,
    pub failures: Vec<Failure>,
}

/// Means over the tiles of one domain; PSNR in dB, of 8-bit values. A ceiling is the upper bound
/// that the rank sets; null if it sets none.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reconstruction {
    pub domain: String,
    pub psnr_db: f64,
    pub ssim: f64,
    /// With a basis for every patch, as in a reconstruction.
    pub ceiling_psnr_db: Option<f64>,
    /// With one basis for the whole tile.
    pub ceiling_shared_psnr_db: Option<f64>,
    /// With the basis of one patch of another tile, as under a broadcast style; also null if there
    /// is one tile.
    pub ceiling_broadcast_psnr_db: Option<f64>,
}

/// How well a technique changes the stain and leaves the tissue; null if undefined. Levels are of
/// 255.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StainFigures {
    /// The images were shrunk to 1/shrink of their sides.
    pub shrink: u32,
    pub method: Technique,
    pub way: Way,
    /// ΔE*ab between variant and truth: the same tile through a known change of stain and scanner.
    pub delta_e: Option<f64>,
    /// PSNR of the same, dB.
    pub psnr_db: Option<f64>,
    /// Projection of variant − tile on truth − tile; 1 is all the way.
    pub strength: Option<f64>,
    /// `delta_e` of tiles of which 40 % or more is glass: those that are so, and all with their
    /// right half turned into glass.
    pub glassy_delta_e: Option<f64>,
    /// Mean difference of glass to the truth, levels.
    pub glass: Option<f64>,
    /// Largest change of a tile of 243 everywhere, over all stains, levels.
    pub blank: Option<f64>,
    /// Mean change of tissue when half of its tile becomes glass, levels.
    pub beside_glass: Option<f64>,
    /// Mean difference of what two overlapping tiles share, levels.
    pub overlap: Option<f64>,
    /// AUROC of one threshold of darkness for the nuclei of a slide's tiles; before, that of the
    /// tiles as they are.
    pub order: Option<f64>,
    pub order_before: Option<f64>,
}

/// How near variants of tiles of one size are to the truth: the same tile through a known change of
/// stain and scanner. Ratios are null where nothing varies.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SizeFigures {
    /// Of the tiles, pixels.
    pub side: usize,
    /// The images were shrunk to 1/shrink of their sides.
    pub shrink: u32,
    /// µm a pixel after that, where `--mpp` or the images' files state it.
    pub microns: Option<f64>,
    pub method: Technique,
    /// Whether the model was given `microns`, as by `mpp` in a request.
    pub mpp_stated: bool,
    pub tiles: usize,
    /// ΔE*ab between variant and truth.
    pub delta_e: f64,
    /// PSNR of the same, dB.
    pub psnr_db: f64,
    /// Mean difference of neighbouring pixels ÷ that of the truth.
    pub sharpness: Option<f64>,
    /// The difference of neighbours across the borders of the model's patches ÷ that inside, ÷ the
    /// same of the truth: 1 without a visible grid.
    pub grid: Option<f64>,
}

/// The figures of one ordered pair of domains. Distances are in levels of 255.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pair {
    pub from: String,
    pub to: String,
    pub distance_before: f64,
    #[serde(flatten)]
    pub methods: BTreeMap<Technique, Scores>,
}

/// The figures of one technique; null if undefined or not measured.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Scores {
    /// Mean per-channel Wasserstein distance between all pixels of the variants and of the second
    /// domain.
    pub distance: f64,
    /// `distance` divided by the distance before.
    pub left: f64,
    /// Between the tile and its variant.
    pub ssim: f64,
    /// Dice coefficient of the haematoxylin masks of the tile and its variant.
    pub dice: f64,
    /// Mean squared difference of the anatomy of variant and tile ÷ that of two different tiles of
    /// the domain.
    pub anatomy_drift: f64,
    /// Between features of the variants and of the second domain's tiles.
    pub frechet: Option<f64>,
    pub kid: Option<f64>,
    pub taken_for: Option<TakenFor>,
}

/// The domains that the judge predicts for variants, as shares.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct TakenFor {
    pub target: f64,
    pub source: f64,
    pub other: f64,
}

/// Means over all pairs; `left` is the mean distance after divided by the mean distance before.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    pub distance_before: f64,
    #[serde(flatten)]
    pub methods: BTreeMap<Technique, Scores>,
}

/// Means over pairs of variants of one tile in styles of other domains.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Diversity {
    /// Mean per-channel Wasserstein distance, levels of 255.
    pub color_distance: f64,
    /// 1 − SSIM.
    pub dissimilarity: f64,
}

/// The blocking artefact: mean difference of neighbouring pixels across patch boundaries, divided
/// by that inside patches.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Edges {
    pub domain: String,
    pub real: f64,
    pub reconstruction: f64,
    pub variants: BTreeMap<Technique, f64>,
}

/// The judge's training and its accuracy.
#[derive(Clone, Debug, Serialize)]
pub(super) struct JudgeReport {
    /// Describes its training images.
    pub trained_on: String,
    pub training_tiles: usize,
    pub held_out_tiles: usize,
    /// Accuracy on real tiles that it was not trained on.
    pub accuracy: f64,
    /// Confusion matrix of those tiles: rows are domains, columns predictions.
    pub confusion: Vec<Vec<usize>>,
    /// By domain: the evaluated tiles that it was not trained on, whose variants it judges.
    pub judged_tiles: Vec<usize>,
}

/// The result for tiles outside the techniques' assumptions: means over domains, each in the style
/// of the next.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failure {
    pub kind: String,
    pub method: Technique,
    /// Share of values that are 0 or 255.
    pub clipped: f64,
    /// The same share before.
    pub clipped_before: f64,
    pub ssim: f64,
    /// Mean level after minus mean level before.
    pub level_change: f64,
    /// The share of the change due to the ink that lies under the stroke.
    pub ink_in_place: Option<f64>,
    /// Mean change of the ink's pixels, levels of 255.
    pub ink_change: Option<f64>,
}
