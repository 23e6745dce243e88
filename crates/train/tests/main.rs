//! One crate of integration tests: the real `restain-train`, and its parts against the published code.

mod checkpointing;
mod dataset;
mod densenet;
mod downstream;
mod evaluate;
mod fit;
mod monitor;
mod options;
mod reference;
mod resume;
mod world;
