//! One crate of integration tests: facts about behaviour, on real parts.

mod architecture;
#[cfg(feature = "train")]
mod train;
