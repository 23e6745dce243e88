//! The parts of training on libtorch that the `tch` crate does not offer: devices chosen at run
//! time, an optimiser whose state can be saved, and bindings to a little C++.
//!
//! It knows no model: parameters are named tensors.

#![warn(missing_docs)]

pub mod adamw;
pub mod device;
pub mod native;
pub mod place;
