//! One crate of integration tests: facts about behaviour, on real parts.

mod architecture;
#[cfg(feature = "serve")]
mod augment;
mod demo;
#[cfg(feature = "serve")]
mod harness;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "train")]
mod train;
