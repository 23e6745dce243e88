//! The model in libtorch: the encoder, which has all the parameters, and the synthesiser, which
//! turns its tokens into pixels.
//!
//! Losses, optimisers and files are left to other modules.

pub(crate) mod inference;
pub mod mixing;
mod recompute;
pub mod vit;
