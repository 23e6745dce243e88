//! One crate of integration tests: facts about behaviour, on real parts.

mod architecture;
mod augment;
mod cli;
mod demo;
mod harness;
mod serve;
