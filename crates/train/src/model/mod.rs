//! The model on tensors: the encoder, and the synthesiser that turns its tokens into pixels.

pub(crate) mod inference;
pub mod mixing;
mod recompute;
pub mod vit;
