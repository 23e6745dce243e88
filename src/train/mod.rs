//! The trainer.

pub mod phantom;
