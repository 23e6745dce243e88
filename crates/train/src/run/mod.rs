//! A training run: the loop, its state on disk, and the monitoring of its progress.
//!
//! Commands and their options, and the bundle that a run ends with, are in other modules.

pub mod checkpoint;
pub(crate) mod monitor;
mod preview;
pub(crate) mod progress;
pub(crate) mod tensorboard;
pub(crate) mod trainer;
pub(crate) mod validate;
pub(crate) mod warm_start;
