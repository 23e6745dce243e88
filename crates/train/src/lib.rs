//! The trainer: it reads tiles and writes a bundle.
//!
//! `input` makes batches, `model` is the encoder and the synthesiser on tensors, `objective` the
//! losses and recipes, `run` the training loop with its state on disk, `publish` the way from
//! weights to a bundle, and `world` the processes of a run. What is measured of a finished bundle
//! is in `restain-lab`; serving one is the other program's part.

pub mod cli;
mod exit;
mod fit;
mod input;
pub mod model;
pub mod objective;
mod options;
mod preset;
pub mod publish;
mod report;
pub mod run;
mod splits;
mod world;
