//! Measurements of a bundle: how well it re-stains, what its variants are worth to a classifier,
//! and procedural tiles to measure on.
//!
//! Everything here runs the bundle's exported encoder through `restain-engine`, as the server does.
//! Training an encoder and writing its bundle are left to `restain-train`.

#![warn(missing_docs)]

pub mod card;
pub mod classifier;
pub mod downstream;
pub mod encodings;
pub mod evaluate;
mod exemplars;
pub mod familiar;
pub mod phantom;
pub mod phase;
pub mod samples;
pub mod stain;
pub mod styles;
pub mod transform;
pub mod truth;
