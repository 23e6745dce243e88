//! Random numbers from a ChaCha8 stream.
//!
//! The `rand` crate may change its algorithms between versions; these functions do not, so that a
//! seed gives the same numbers on every machine and after every update.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Draws a uniform number in 0..1, 1 excluded. Uses one 64-bit word of the stream.
pub fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Draws a uniform integer in 0..n, n excluded. Uses one 64-bit word of the stream.
pub fn below(rng: &mut ChaCha8Rng, n: u64) -> u64 {
    ((rng.next_u64() as u128 * n as u128) >> 64) as u64
}

/// Shuffles in place (Fisher and Yates).
pub fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i as u64 + 1) as usize);
    }
}

/// Draws a standard normal number (Box and Muller 1958). Uses two 64-bit words of the stream.
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}
