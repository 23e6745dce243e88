//! Synthetic tiles, for a run without a data set: a pink ground, purple discs, and noise. They
//! compress and encode like stained tissue and take a millisecond each. They are no model of
//! tissue: that is the trainer's phantom.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use restain_bundle::codec::RgbImage;

const GROUND: [f32; 3] = [228.0, 180.0, 208.0];
const NUCLEUS: [f32; 3] = [104.0, 72.0, 140.0];
/// Discs per thousand pixels.
const DENSITY: f32 = 2.5;
/// Half the width of a disc's soft edge, and the height of the noise, in pixels and in grey values.
const EDGE: f32 = 1.0;
const NOISE: f32 = 12.0;

/// Draws tile `number` of `seed`, `side` pixels square. Every pixel has its own noise, so that no
/// two tiles are equal.
pub(crate) fn tile(seed: u64, number: u64, side: usize) -> RgbImage {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    dice.set_stream(number);
    let tint: [f32; 3] = std::array::from_fn(|_| between(&mut dice, -14.0, 14.0));
    let count = (DENSITY * (side * side) as f32 / 1_000.0).ceil() as usize;
    let mut cover = vec![0.0f32; side * side];
    for _ in 0..count {
        let (x, y) = (between(&mut dice, 0.0, side as f32), between(&mut dice, 0.0, side as f32));
        let radius = between(&mut dice, 4.0, 8.0).min(side as f32 / 4.0);
        disc(&mut cover, side, (x, y), radius);
    }
    let mut pixels = Vec::with_capacity(side * side * 3);
    for cover in cover {
        let grain = dice.next_u32().to_le_bytes();
        for channel in 0..3 {
            let colour =
                GROUND[channel] + tint[channel] + cover * (NUCLEUS[channel] - GROUND[channel]);
            let noise = NOISE * (f32::from(grain[channel]) / 127.5 - 1.0);
            pixels.push((colour + noise).round().clamp(0.0, 255.0) as u8);
        }
    }
    RgbImage { width: side, height: side, pixels }
}

/// Draws one disc into the coverage, 0 (ground) to 1 (nucleus).
fn disc(cover: &mut [f32], side: usize, (x, y): (f32, f32), radius: f32) {
    let reach = radius + EDGE;
    let span = |centre: f32| {
        (centre - reach).max(0.0) as usize..((centre + reach).ceil() as usize).min(side)
    };
    for row in span(y) {
        for column in span(x) {
            let away = (column as f32 + 0.5 - x).hypot(row as f32 + 0.5 - y);
            let inside = ((radius - away) / (2.0 * EDGE) + 0.5).clamp(0.0, 1.0);
            let pixel = &mut cover[row * side + column];
            *pixel = pixel.max(inside);
        }
    }
}

fn between(dice: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * (dice.next_u32() >> 8) as f32 / (1 << 24) as f32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tiles_are_distinct_and_the_same_every_time() {
        let draw =
            |seed| (0..40).map(|number| tile(seed, number, 32).pixels).collect::<BTreeSet<_>>();
        assert_eq!(draw(1).len(), 40);
        assert_eq!(draw(1), draw(1));
        assert!(draw(1).is_disjoint(&draw(2)));
    }

    #[test]
    fn a_tile_is_mostly_pink_with_purple_in_it() {
        let tile = tile(0, 0, 96);
        let purple = tile.pixels.chunks_exact(3).filter(|pixel| pixel[0] < 150).count();
        let share = purple as f32 / (96.0 * 96.0);
        assert!((0.1..0.6).contains(&share), "{share}");
    }
}
