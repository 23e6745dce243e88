//! Pasted glass: part of a tile, or all of it, becomes the glass of its field.
//!
//! Few crops show glass, and most of those come from a few fields. Pasted glass is part of both
//! tiles of a pair, so that its target is glass in the other stain.

use image::RgbImage;
use rand_chacha::ChaCha8Rng;

use restain_data::{normal, unit as uniform};
use restain_method::field::FieldStain;

/// Deviation of the noise of glass, in levels.
const NOISE: f64 = 1.0;
/// Nodes along a side of the random relief whose highest part becomes glass.
const NODES: usize = 4;

/// How much of a tile becomes glass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    /// A part with a smooth border.
    Part,
    /// Every pixel.
    All,
}

/// Turns a tile, or a part of it, into glass of the field, with a little noise.
pub(super) fn paste_glass(
    tile: &mut RgbImage,
    stain: &FieldStain,
    cover: Cover,
    rng: &mut ChaCha8Rng,
) {
    let relief: Vec<f64> = (0..NODES * NODES).map(|_| normal(rng)).collect();
    // Above this height glass lies; the smaller, the more.
    let height = match cover {
        Cover::Part => normal(rng) * 0.5,
        Cover::All => f64::NEG_INFINITY,
    };
    let width = 0.05 + 0.25 * uniform(rng);
    let last = (NODES - 1) as f64 / f64::from(tile.width() - 1).max(1.0);
    for (x, y, pixel) in tile.enumerate_pixels_mut() {
        let (u, v) = (f64::from(x) * last, f64::from(y) * last);
        let (i, j) = ((u as usize).min(NODES - 2), (v as usize).min(NODES - 2));
        let (s, t) = (u - i as f64, v - j as f64);
        let at = |i: usize, j: usize| relief[j * NODES + i];
        let above = at(i, j) * (1.0 - s) + at(i + 1, j) * s;
        let under = at(i, j + 1) * (1.0 - s) + at(i + 1, j + 1) * s;
        // 0 is tissue, 1 glass.
        let share = ((above + (under - above) * t - height) / width + 0.5).clamp(0.0, 1.0);
        if share > 0.0 {
            let noise = NOISE * normal(rng) * share;
            pixel.0 = std::array::from_fn(|c| {
                let white = 255.0 * stain.white[c];
                // In density the change is in proportion.
                let level = f64::from(pixel.0[c]).max(1.0).powf(1.0 - share) * white.powf(share);
                (level + noise).round().clamp(0.0, 255.0) as u8
            });
        }
    }
}
