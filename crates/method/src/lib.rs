//! The method of arXiv 2407.02900 as pure functions on slices: no I/O, no async, no inference engine.

pub mod color;
pub mod exemplar;
pub mod geometry;
pub mod latent;
pub mod macenko;
pub mod metrics;
pub mod normalise;
pub mod patches;
pub mod positions;
#[cfg(test)]
mod reference_figures;
pub mod reinhard;
pub mod style;
pub mod synth;

pub use geometry::{Geometry, GeometryError};
pub use normalise::Normalisation;
pub use patches::PixelOrder;
pub use style::Style;
