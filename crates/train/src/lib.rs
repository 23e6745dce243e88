//! The trainer: tiles in, a bundle out.

pub mod cli;
mod fit;
mod input;
pub mod model;
pub mod objective;
mod options;
mod preset;
pub mod publish;
mod report;
pub mod run;
mod world;
