//! Draws of single numbers from a generator.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Uniform in 0..1, below 1.
pub fn uniform(generator: &mut ChaCha8Rng) -> f32 {
    (generator.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// Standard normal (Box and Muller 1958).
pub(super) fn normal(generator: &mut ChaCha8Rng) -> f32 {
    let (radius, angle) = (1.0 - uniform(generator), uniform(generator));
    (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
}
