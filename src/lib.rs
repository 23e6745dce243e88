//! restain: domain-shifted histopathology tiles on tap.
//!
//! The server: it encodes tiles with a trained Vision Transformer and answers with variants in
//! another stain. The crates beside it are what it stands on, and the trainer that makes the
//! bundles it serves. ARCHITECTURE.md has the floor plan.

pub mod augment;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
pub mod serve;
