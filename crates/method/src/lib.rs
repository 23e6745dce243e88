//! Domain shift of histopathology tiles (arXiv 2407.02900) as pure functions on slices.
//!
//! An encoder splits a tile into anatomy and characteristics (its stain and scanner). Here are the
//! steps around it: a tile at the model's size ([`shrink`](shrink::shrink)), the sizes of a model
//! ([`geometry`]), the product that makes pixels from anatomy and a style ([`synth`]), the way from
//! the model's size to the tile's own ([`upsample`]), glass that stays glass ([`glass`]), how much
//! of a variant is clipped ([`clip`]), blends of styles ([`style`]), styles drawn wider than a bank
//! ([`spread`]), which tiles and patches a style is taken from ([`exemplar`]), the training-free
//! baselines ([`color`], [`macenko`], [`reinhard`], [`rand_stain_na`]), and the [`metrics`] that
//! compare them. No I/O, no async, no inference engine: encoding is in `restain-engine`.
//!
//! Symbols follow the paper: tile side H = W, channels C = 3, patch side P, patches N = (H/P)²,
//! embedding E, half h = E/2, rank L = h/(C·P). Slices are row-major.

#![warn(missing_docs)]

pub mod clip;
pub mod color;
pub mod exemplar;
pub mod field;
pub mod geometry;
pub mod glass;
pub mod latent;
pub mod macenko;
pub mod metrics;
pub mod normalise;
pub mod patches;
pub mod positions;
pub mod rand_stain_na;
pub mod random;
#[cfg(test)]
mod reference_figures;
pub mod reinhard;
pub mod shrink;
pub mod spread;
pub mod style;
pub mod synth;
mod taps;
pub mod upsample;
pub mod windows;

pub use geometry::{Geometry, GeometryError};
pub use normalise::Normalisation;
pub use patches::PixelOrder;
pub use style::Style;
