//! Reading published weights: a PyTorch checkpoint (`.pth`: a flat state dict, or one nested under `model` beside the
//! optimiser's) or `.safetensors`.
//!
//! Nothing in a checkpoint is ever executed: see `pickle`. What is read is handed on under its published names; whether
//! it makes a model is for [`Weights::geometry`] to say.

mod pickle;
mod torch;

use std::path::{Path, PathBuf};

pub use pickle::PickleError;

use restain_bundle::{Weights, WeightsError};

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot open {path}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error(
        "{path} is neither .safetensors nor a zip checkpoint of PyTorch 1.6 or later (save an older one again with torch.save)"
    )]
    NotAZip { path: PathBuf, source: zip::result::ZipError },
    #[error("{entry} cannot be read from the checkpoint")]
    Entry { entry: String, source: zip::result::ZipError },
    #[error("{entry} cannot be read from the checkpoint")]
    Read { entry: String, source: std::io::Error },
    #[error("the checkpoint has no data.pkl")]
    NoPickle,
    #[error("the checkpoint's numbers are {0}-endian, and must be little-endian")]
    ByteOrder(String),
    #[error("the checkpoint's pickle is not one that state dicts use")]
    Pickle(#[from] PickleError),
    #[error(
        "the checkpoint holds no state dict: expected tensors by name, or such a dict under \"model\""
    )]
    NoStateDict,
    #[error("{name}: {problem}")]
    Tensor { name: String, problem: String },
    #[error("the weights in {path} are refused")]
    Weights { path: PathBuf, source: WeightsError },
}

/// Reads every tensor of a checkpoint's model, as f32.
pub fn read_checkpoint(path: &Path) -> Result<Weights, ImportError> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        return Weights::read(path)
            .map_err(|source| ImportError::Weights { path: path.to_owned(), source });
    }
    torch::read(path)
}

#[cfg(test)]
mod tests;
