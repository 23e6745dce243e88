//! Data loading: images become augmented, standardised batches, ahead of the training loop.

pub(crate) mod loader;
pub(crate) mod transforms;
