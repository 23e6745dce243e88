//! Why the runtime, a graph or a run was refused.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(
        "cannot load ONNX Runtime from {library}{}; set ORT_DYLIB_PATH to the library, or fetch it into .deps/onnxruntime",
        list(tried)
    )]
    Library {
        library: PathBuf,
        /// Places looked at before, where it was not.
        tried: Vec<PathBuf>,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "ONNX Runtime cannot use it; a GPU needs the library built for it (make onnxruntime-cuda), CUDA's libraries where the loader looks, \
         and NVIDIA's driver"
    )]
    Device(#[source] ort::Error),
    #[error("ONNX Runtime refuses {path}")]
    Graph { path: PathBuf, source: ort::Error },
    #[error("{path} is not an encoder of this geometry: {problem}")]
    Signature { path: PathBuf, problem: String },
    #[error("{found} bytes of tiles for a batch of {batch}, which needs {expected}")]
    TileBytes { found: usize, expected: usize, batch: usize },
    #[error("the graph answered {found} values of {name}, and must answer {expected}")]
    OutputLength { name: &'static str, found: usize, expected: usize },
    #[error("ONNX Runtime could not run the encoder")]
    Run(#[source] ort::Error),
    #[error("ONNX Runtime could not tell what it ran: its account goes through a temporary file")]
    Profile(#[source] std::io::Error),
}

impl EngineError {
    /// Adds the places that were looked at before the library that failed.
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
