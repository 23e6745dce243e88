//! Errors of loading the runtime, opening a graph and running it.

use std::path::PathBuf;
use std::time::Duration;

/// Why ONNX Runtime, a graph or a run failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The library cannot be loaded.
    #[error(
        "cannot load ONNX Runtime from {library}{}; set ORT_DYLIB_PATH to the library, or fetch it \
        into .deps/onnxruntime",
        list(tried)
    )]
    Library {
        /// The library that was tried last.
        library: PathBuf,
        /// Paths that were tried before it and do not exist.
        tried: Vec<PathBuf>,
        /// What the loader reports.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The device is not available.
    #[error(
        "ONNX Runtime cannot use the device; a GPU needs the library built for it (make \
        onnxruntime-cuda), CUDA's libraries where the loader looks, and NVIDIA's driver"
    )]
    Device(#[source] ort::Error),
    /// Weights to be shared are not what they are said to be.
    #[error("ONNX Runtime cannot share the weights")]
    Weights(#[source] ort::Error),
    /// The file is not a graph that the runtime can load.
    #[error("ONNX Runtime cannot load {path}")]
    #[expect(missing_docs, reason = "the names say it")]
    Graph { path: PathBuf, source: ort::Error },
    /// Input or outputs are not those of an encoder of the geometry.
    #[error("{path} is not an encoder of this geometry: {problem}")]
    #[expect(missing_docs, reason = "the names say it")]
    Signature { path: PathBuf, problem: String },
    /// The tiles have another length than the batch needs.
    #[error("tiles are {found} bytes, and a batch of {batch} must be {expected}")]
    #[expect(missing_docs, reason = "the names say it")]
    TileBytes { found: usize, expected: usize, batch: usize },
    /// An output has another length than the batch's latents.
    #[error("the graph returned {found} values of {name}, and must return {expected}")]
    #[expect(missing_docs, reason = "the names say it")]
    OutputLength { name: &'static str, found: usize, expected: usize },
    /// The run failed.
    #[error("ONNX Runtime could not run the encoder")]
    Run(#[source] ort::Error),
    /// The run took longer than it may, and was stopped.
    #[error("the encoder was stopped: it ran longer than {} s", .0.as_secs_f64())]
    TooLong(Duration),
    /// The profile could not be written or read.
    #[error("the profile of ONNX Runtime cannot be read from its temporary file")]
    Profile(#[source] std::io::Error),
}

impl EngineError {
    /// Adds the paths that were tried before the library that failed.
    pub(super) fn after(mut self, places: Vec<PathBuf>) -> Self {
        if let Self::Library { tried, library, .. } = &mut self {
            *tried = places.into_iter().filter(|place| place != library).collect();
            tried.dedup();
        }
        self
    }
}

fn list(tried: &[PathBuf]) -> String {
    let places: Vec<String> = tried.iter().map(|place| place.display().to_string()).collect();
    if places.is_empty() { String::new() } else { format!(" (looked in {})", places.join(", ")) }
}
