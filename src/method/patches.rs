//! Cutting a tile into patches and putting patches back, in both pixel orders.

use serde::{Deserialize, Serialize};

/// How the product [C, P, P] of a patch becomes pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelOrder {
    /// Channel planes: transposed to [P, P, C] before it is put in place. What the paper's text says.
    Planar,
    /// Reshaped (not transposed) to [P, P, C]: what the published code does, and its checkpoints need.
    Interleaved,
}
