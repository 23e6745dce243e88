//! What a loss is computed from: a batch, the model and the normalisation.
//!
//! Which loss it is, the recipes decide.

use tch::Tensor;

use crate::model::mixing::Synthesiser;
use crate::model::vit::Vit;
use crate::objective::paired::pairs::Plan;
use restain_method::Normalisation;

/// The tiles of one batch.
pub struct Batch {
    /// f32 [B, C, H, W], standardised.
    pub tiles: Tensor,
    /// `None` for single tiles.
    pub(crate) plan: Option<Plan>,
}

impl Batch {
    /// Makes a batch of single tiles, f32 [B, C, H, W], standardised.
    pub fn of(tiles: Tensor) -> Self {
        Self { tiles, plan: None }
    }
}

/// The model and the normalisation that a loss is computed with.
pub struct Scene<'a> {
    pub vit: &'a Vit,
    pub synth: &'a Synthesiser,
    pub normalisation: &'a Normalisation,
}
