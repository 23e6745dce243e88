//! Between pixels (u8, 0..=255) and the standardised values that the encoder works on.

use serde::{Deserialize, Serialize};

/// Per-channel mean and standard deviation of pixels scaled to 0..1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}
