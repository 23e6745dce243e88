//! Measures of how well an exported graph agrees with the trained weights. `export` compares them
//! with its tolerances.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use restain_engine::Encodings;
use restain_method::metrics::psnr;
use restain_method::synth::Synthesiser;
use restain_method::{Geometry, Normalisation, PixelOrder};

/// The number of tiles that graphs are compared on.
pub(super) const TILES: usize = 4;

/// Makes the tiles, u8 [TILES, H, W, 3]: like histology, with slow shades of pink and violet, dark
/// round spots, and grain.
pub(super) fn fixed_tiles(geometry: &Geometry) -> Vec<u8> {
    let side = geometry.image_size();
    let mut grain = ChaCha8Rng::seed_from_u64(0x0072_6573_7461_696e);
    let mut tiles = Vec::with_capacity(TILES * geometry.tile_bytes());
    for tile in 0..TILES {
        let phase = tile as f32 * 1.7;
        for row in 0..side {
            for column in 0..side {
                let (x, y) = (column as f32 / side as f32 * 6.0, row as f32 / side as f32 * 6.0);
                let shade = ((x + phase).sin() + (y * 0.7 - phase).cos()) * 18.0;
                let spot =
                    ((x * 3.1 + phase).sin() * (y * 2.7 + phase).sin() - 0.4).max(0.0) * 150.0;
                for (base, depth) in [(215.0, 0.9), (160.0, 1.0), (200.0, 0.5)] {
                    let noise = (grain.next_u32() % 17) as f32 - 8.0;
                    tiles.push((base + shade - spot * depth + noise).clamp(0.0, 255.0) as u8);
                }
            }
        }
    }
    tiles
}

/// Returns the largest difference between two encodings, relative to the largest magnitude of the
/// second.
pub(super) fn relative_difference(found: &Encodings, expected: &Encodings) -> f64 {
    let halves =
        [(&found.anatomy, &expected.anatomy), (&found.characteristics, &expected.characteristics)];
    let (mut difference, mut magnitude) = (0.0_f64, f64::MIN_POSITIVE);
    for (found, expected) in halves {
        if found.len() != expected.len() {
            return f64::INFINITY;
        }
        for (&found, &expected) in found.iter().zip(expected) {
            let apart = f64::from((found - expected).abs());
            // A NaN on either side must not pass as a small difference.
            difference = if apart.is_nan() { f64::INFINITY } else { difference.max(apart) };
            magnitude = magnitude.max(f64::from(expected.abs()));
        }
    }
    difference / magnitude
}

/// Returns the PSNR, in dB, between the 8-bit tiles that two encodings reconstruct.
pub(super) fn reconstruction_psnr(
    a: &Encodings,
    b: &Encodings,
    geometry: Geometry,
    order: PixelOrder,
    normalisation: Normalisation,
) -> f64 {
    let synthesiser = Synthesiser::new(geometry, order, normalisation);
    let reconstruct = |encodings: &Encodings| {
        let mut scratch = synthesiser.scratch();
        let mut tiles = vec![0; encodings.batch * geometry.tile_bytes()];
        let latents = encodings
            .anatomy
            .chunks_exact(geometry.tile_anatomy())
            .zip(encodings.characteristics.chunks_exact(geometry.tile_characteristics()));
        for (tile, (anatomy, characteristics)) in
            tiles.chunks_exact_mut(geometry.tile_bytes()).zip(latents)
        {
            synthesiser.aligned(anatomy, characteristics, &mut scratch, tile);
        }
        tiles
    };
    psnr(&reconstruct(a), &reconstruct(b))
}
