//! The options of the paired recipe.

use serde::{Deserialize, Serialize};

use restain_options::{at_least, within};

/// The weights of the terms and the probabilities of the draws; reconstruction has weight 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[command(next_help_heading = "Paired recipe")]
pub struct PairedArgs {
    /// Weigh re-staining a tile with a token of another, transformed tile of its field (recipe
    /// paired)
    #[arg(id = "paired_there_weight", long = "paired-there-weight", value_name = "WEIGHT",
        default_value_t = Self::default().there, value_parser = at_least(0.0))]
    pub there: f64,
    /// Weigh the reverse, from the transformed field to the original one (recipe paired)
    #[arg(id = "paired_back_weight", long = "paired-back-weight", value_name = "WEIGHT",
        default_value_t = Self::default().back, value_parser = at_least(0.0))]
    pub back: f64,
    /// Weigh giving a tile its own stain with a token of another tile of its field (recipe paired)
    #[arg(id = "paired_self_weight", long = "paired-self-weight", value_name = "WEIGHT",
        default_value_t = Self::default().own, value_parser = at_least(0.0))]
    pub own: f64,
    /// Weigh the difference of the anatomies of a tile and its transform (recipe paired)
    #[arg(id = "paired_invariance_weight", long = "paired-invariance-weight", value_name = "WEIGHT",
        default_value_t = Self::default().invariance, value_parser = at_least(0.0))]
    pub invariance: f64,
    /// Weigh the difference, in pixels, between the pictures that the anatomies of a tile and of its
    /// transform give with one style (recipe paired)
    #[arg(id = "paired_agreement_weight", long = "paired-agreement-weight", value_name = "WEIGHT",
        default_value_t = Self::default().agreement, value_parser = at_least(0.0))]
    pub agreement: f64,
    /// Weigh the change that two styles of slides make to a tile, compared to the exact change
    /// (recipe paired)
    #[arg(id = "paired_change_weight", long = "paired-change-weight", value_name = "WEIGHT",
        default_value_t = Self::default().change, value_parser = at_least(0.0))]
    pub change: f64,
    /// Weigh how differently tissue comes out beside glass, or beside other tissue (recipe paired)
    #[arg(id = "paired_beside_weight", long = "paired-beside-weight", value_name = "WEIGHT",
        default_value_t = Self::default().beside, value_parser = at_least(0.0))]
    pub beside: f64,
    /// Weigh errors of the differences between neighbouring pixels (recipe paired)
    #[arg(id = "paired_detail_weight", long = "paired-detail-weight", value_name = "WEIGHT",
        default_value_t = Self::default().detail, value_parser = at_least(0.0))]
    pub detail: f64,
    /// Weigh errors of the differences across patch borders (recipe paired)
    #[arg(id = "paired_border_weight", long = "paired-border-weight", value_name = "WEIGHT",
        default_value_t = Self::default().border, value_parser = at_least(0.0))]
    pub border: f64,
    /// Draw this many style tokens from each tile for the terms there and back (recipe paired)
    #[arg(id = "paired_style_draws", long = "paired-style-draws", value_name = "DRAWS",
        default_value_t = Self::default().draws, value_parser = at_least(1usize))]
    pub draws: usize,
    /// Draw this many pairs from a field, one after the other, with one transform; their tiles are
    /// each other's slide (recipe paired)
    #[arg(id = "paired_field_pairs", long = "paired-field-pairs", value_name = "PAIRS",
        default_value_t = Self::default().field_pairs, value_parser = at_least(1usize))]
    pub field_pairs: usize,
    /// Take the mean style of the other tiles of a field instead of one token with this probability
    /// (recipe paired)
    #[arg(id = "paired_slide_chance", long = "paired-slide-chance", value_name = "PROBABILITY",
        default_value_t = Self::default().slide, value_parser = within(0.0, 1.0))]
    pub slide: f64,
    /// Give a field another stain first, before its transform, with this probability: no field is
    /// known by its colours (recipe paired)
    #[arg(id = "paired_base_chance", long = "paired-base-chance", value_name = "PROBABILITY",
        default_value_t = Self::default().base, value_parser = within(0.0, 1.0))]
    pub base: f64,
    /// Draw the amounts of the stains, and all else, from wider ranges with this probability (recipe
    /// paired)
    #[arg(id = "paired_wide_chance", long = "paired-wide-chance", value_name = "PROBABILITY",
        default_value_t = Self::default().wide, value_parser = within(0.0, 1.0))]
    pub wide: f64,
    /// Mix densities and bend their curves at random, towards no other field, with this probability
    /// (recipe paired)
    #[arg(id = "paired_free_chance", long = "paired-free-chance", value_name = "PROBABILITY",
        default_value_t = Self::default().free, value_parser = within(0.0, 1.0))]
    pub free: f64,
    /// Map quantiles of density with this probability, where a transform is not free; the others
    /// are Beer–Lambert (recipe paired)
    #[arg(id = "paired_quantile_chance", long = "paired-quantile-chance",
        value_name = "PROBABILITY", default_value_t = Self::default().quantiles,
        value_parser = within(0.0, 1.0))]
    pub quantiles: f64,
    /// Turn a part of both tiles into glass with this probability; its target is glass (recipe
    /// paired)
    #[arg(id = "paired_glass_chance", long = "paired-glass-chance", value_name = "PROBABILITY",
        default_value_t = Self::default().glass, value_parser = within(0.0, 1.0))]
    pub glass: f64,
    /// Crop at most this many tile sides from a field; above 1.35, fields are also shrunk to larger
    /// pixels (recipe paired)
    #[arg(id = "paired_largest_crop", long = "paired-largest-crop", value_name = "TILES",
        default_value_t = Self::default().largest_crop, value_parser = within(1.0, 16.0))]
    pub largest_crop: f64,
}

impl Default for PairedArgs {
    fn default() -> Self {
        Self {
            there: 0.5,
            back: 0.5,
            own: 0.5,
            invariance: 1.0,
            agreement: 0.75,
            change: 1.0,
            beside: 1.0,
            detail: 0.4,
            border: 0.3,
            draws: 2,
            field_pairs: 2,
            slide: 0.5,
            base: 0.8,
            wide: 0.5,
            free: 0.15,
            quantiles: 0.4,
            glass: 0.2,
            largest_crop: 1.35,
        }
    }
}
