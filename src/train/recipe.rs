//! One training step of a recipe: what it draws, and its loss.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::train::dataset::{below, normal};
use crate::train::losses::{self, Losses, Mix, Shift};
use crate::train::mixing::Synthesiser;
use crate::train::vit::Vit;

/// `--recipe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// The published loss, nothing else.
    Published,
    /// The published loss plus cross-reconstruction of a stain-shifted copy: what makes it re-stain.
    Cross,
}

/// What a recipe draws, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Mixing {
    /// Styles mixed into every tile, K.
    pub mixes: usize,
    /// Weight of the term `match` of the cross recipe.
    pub match_weight: f64,
    pub seed: u64,
}

impl Recipe {
    /// The loss of one step. What is random in it depends on (seed, step) alone.
    pub fn losses(self, vit: &Vit, synth: &Synthesiser, tiles: &Tensor, mixing: &Mixing, step: u64) -> Losses {
        // Streams from the top down; the data set's draws take them from zero up.
        let mut rng = ChaCha8Rng::seed_from_u64(mixing.seed);
        rng.set_stream(u64::MAX - step);
        let batch = tiles.size()[0] as u64;
        let patches = vit.geometry.patches() as u64;
        let mixes = draw_mixes(&mut rng, mixing.mixes, batch, patches);
        match self {
            Self::Published => losses::published(vit, synth, tiles, &mixes),
            Self::Cross => losses::cross(vit, synth, tiles, &mixes, &draw_shift(&mut rng, tiles, patches, mixing.match_weight)),
        }
    }
}

/// Any patch's token of any tile; CLS is no patch.
fn draw_mixes(rng: &mut ChaCha8Rng, mixes: usize, batch: u64, patches: u64) -> Vec<Mix> {
    (0..mixes).map(|_| Mix { sample: below(rng, batch) as i64, token: 1 + below(rng, patches) as i64 }).collect()
}

fn draw_shift(rng: &mut ChaCha8Rng, tiles: &Tensor, patches: u64, match_weight: f64) -> Shift {
    let (batch, device) = (tiles.size()[0], tiles.device());
    // Another tile of the batch: a turn of 1..batch places. A batch of one is matched with itself.
    let turned = |b: i64, rng: &mut ChaCha8Rng| if batch == 1 { 0 } else { (b + 1 + below(rng, batch as u64 - 1) as i64) % batch };
    let other: Vec<i64> = (0..batch).map(|b| turned(b, rng)).collect();
    let mut normals = || -> Vec<f32> { (0..batch * 3).map(|_| normal(rng) as f32).collect() };
    let (gain, offset) = (normals(), normals());
    let mut tokens = || -> Vec<i64> { (0..batch).map(|_| 1 + below(rng, patches) as i64).collect() };
    let (shifted_token, own_token, other_token) = (tokens(), tokens(), tokens());
    let indices = |values: &[i64], device: Device| Tensor::from_slice(values).to_device(device);
    let matrix = |values: &[f32]| Tensor::from_slice(values).view([batch, 3]).to_device(device);
    Shift {
        tiles: losses::stain_shift(tiles, &indices(&other, device), &matrix(&gain), &matrix(&offset)),
        shifted_token: indices(&shifted_token, device),
        own_token: indices(&own_token, device),
        other: indices(&other, device),
        other_token: indices(&other_token, device),
        match_weight,
    }
}
