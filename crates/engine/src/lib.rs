//! Running an encoder graph: tiles in, latents out, through ONNX Runtime.
//!
//! The only module that names `ort`. It owns no queue and no threads of its own: a worker owns an [`Encoder`] and calls
//! it; batching is the server's matter, synthesis the method's.

mod bound;
mod device;
mod encoder;
mod error;
mod profile;
mod runtime;
mod session;

pub use device::Device;
pub use encoder::{Encoder, EncoderOptions, Encodings};
pub use error::EngineError;
pub use profile::{OperatorProfile, Profile};
pub use runtime::Runtime;

/// What the graph's input and outputs are called.
const INPUT: &str = "tiles";
const OUTPUTS: [&str; 2] = ["anatomy", "characteristics"];
