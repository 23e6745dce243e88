//! A training run: the loop, its state on disk, and what observes it.

pub mod checkpoint;
pub(crate) mod monitor;
mod preview;
pub(crate) mod progress;
pub(crate) mod splits;
pub(crate) mod tensorboard;
pub(crate) mod trainer;
pub(crate) mod validate;
pub(crate) mod warm_start;
