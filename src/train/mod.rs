//! The trainer: tiles in, a bundle out.

pub mod adamw;
pub mod augment;
pub mod dataset;
pub mod device;
pub mod loader;
pub mod losses;
pub mod mixing;
pub mod recipe;
pub mod vit;
