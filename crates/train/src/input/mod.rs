//! Data loading: crops, augmentations and batches, made ahead of the training loop.
//!
//! Listing and decoding images is left to `restain-data`.

pub(crate) mod loader;
pub(crate) mod transforms;
