//! The trainer: tiles in, a bundle out.

pub mod adamw;
pub mod augment;
pub mod card;
pub mod checkpoint;
pub mod cli;
pub mod dataset;
pub mod device;
pub mod encoded;
pub mod evaluate;
pub mod export;
pub mod fit;
pub mod import;
pub mod loader;
pub mod losses;
pub mod mixing;
pub mod options;
pub mod phantom;
pub mod preset;
pub mod produce;
pub mod progress;
pub mod recipe;
pub mod samples;
pub mod styles;
pub mod trainer;
pub mod vit;
