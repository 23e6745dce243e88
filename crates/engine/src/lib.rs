//! Encoding: runs a bundle's ONNX graph in ONNX Runtime, tiles in, latents out.
//!
//! The only crate that names `ort`. The server and the trainer share it, so that both encode with
//! the same code. It has no queue and no threads: a worker owns an [`Encoder`] and calls it.
//! Batching is in the server, synthesis in `restain-method`.

#![warn(missing_docs)]

mod bound;
mod device;
mod encoder;
mod error;
mod options;
mod profile;
mod runtime;
mod session;
mod shared;

pub use device::Device;
pub use encoder::{Encoder, Encodings};
pub use error::EngineError;
pub use options::EncoderOptions;
pub use profile::{OperatorProfile, Profile};
pub use runtime::Runtime;
pub use shared::SharedWeights;

/// The names of the graph's input and outputs.
const INPUT: &str = "tiles";
const OUTPUTS: [&str; 2] = ["anatomy", "characteristics"];
