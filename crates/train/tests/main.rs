//! One crate of integration tests: the real `restain-train`, and its parts against the published code.

mod checkpointing;
mod dataset;
mod densenet;
mod downstream;
mod evaluate;
mod fit;
mod options;
mod reference;
mod resume;
mod watch;
#[cfg(feature = "collectives")]
mod world;
