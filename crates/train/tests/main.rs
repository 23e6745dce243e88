//! The integration tests: the program `restain-train`, and its modules against the published code.

mod checkpointing;
mod dataset;
mod densenet;
mod downstream;
mod evaluate;
mod fit;
mod monitor;
mod options;
mod paired;
mod publishing;
mod reference;
mod resume;
#[cfg(feature = "collectives")]
mod world;
