//! The trainer: tiles in, a bundle out.

mod augment;
pub mod checkpoint;
pub mod cli;
mod export;
mod fit;
pub mod import;
mod inference;
mod loader;
pub mod losses;
pub mod mixing;
mod options;
mod parts;
mod preset;
mod preview;
mod produce;
mod progress;
pub mod recipe;
mod report;
mod tape;
mod tensorboard;
mod trainer;
mod validate;
pub mod vit;
mod warm;
mod watch;
mod world;
