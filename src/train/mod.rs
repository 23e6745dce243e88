//! The trainer.

pub mod export;
pub mod import;
