//! Reading published weights: a PyTorch checkpoint (`.pth`: a flat state dict, or one nested under
//! `model` beside the optimiser's) or `.safetensors`.
//!
//! `pytorch-reader` parses checkpoints. It interprets no more of a pickle than tensors need:
//! nothing in a checkpoint is executed, and every length that a file claims is checked against what
//! the file holds. The tensors are returned under their published names; [`Weights::geometry`]
//! decides whether they make a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use pytorch_reader::{DType, PytorchError, PytorchReader};
use restain_bundle::{Tensor, Weights, WeightsError};

/// The key of the model's state dict in a checkpoint that also holds the optimiser's.
const MODEL: &str = "model";

/// Bytes of tensors for each byte of the file, at most. A view may repeat its storage, so that a
/// small file could ask for any amount of memory.
const EXPANSION: u64 = 16;

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot open {path}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("{path} is neither .safetensors nor a PyTorch checkpoint with a state dict")]
    Checkpoint { path: PathBuf, source: PytorchError },
    #[error(
        "{path} holds no state dict: expected tensors by name, or such a dict under \"{MODEL}\""
    )]
    NoStateDict { path: PathBuf },
    #[error("the tensors of {path} take {tensors} bytes, more than {EXPANSION} times its {file}")]
    TooLarge { path: PathBuf, tensors: u128, file: u64 },
    #[error("a tensor of {path} cannot be read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{name} is a tensor of {dtype:?}, and must be of F16, BF16, F32 or F64")]
    Type { name: String, dtype: DType },
    #[error("the weights in {path} are refused")]
    Weights { path: PathBuf, source: WeightsError },
}

/// Reads every tensor of a checkpoint's model, as f32.
///
/// # Errors
/// When the file cannot be read, is not a checkpoint, or holds no state dict of floating-point
/// tensors.
pub fn read_checkpoint(path: &Path) -> Result<Weights, ImportError> {
    let refused = |source| ImportError::Weights { path: path.to_owned(), source };
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        return Weights::read(path).map_err(refused);
    }
    let mut tensors = BTreeMap::new();
    for (name, tensor) in state_dict(path)?.into_tensors() {
        let bytes =
            tensor.read().map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
        let data = floats(tensor.dtype(), &bytes)
            .ok_or_else(|| ImportError::Type { name: name.clone(), dtype: tensor.dtype() })?;
        tensors.insert(name, Tensor { shape: tensor.shape().to_vec(), data });
    }
    Weights::from_tensors(tensors).map_err(refused)
}

/// Parses the checkpoint; the tensors' numbers stay in the file.
fn state_dict(path: &Path) -> Result<PytorchReader, ImportError> {
    let file = std::fs::metadata(path)
        .map_err(|source| ImportError::Open { path: path.to_owned(), source })?
        .len();
    let reader = match PytorchReader::with_top_level_key(path, MODEL) {
        Err(PytorchError::KeyNotFound(_)) => PytorchReader::new(path),
        nested => nested,
    }
    .map_err(|source| ImportError::Checkpoint { path: path.to_owned(), source })?;
    if reader.is_empty() {
        return Err(ImportError::NoStateDict { path: path.to_owned() });
    }
    let tensors: u128 = reader.tensors().values().map(|tensor| tensor.byte_len() as u128).sum();
    if tensors > u128::from(file) * u128::from(EXPANSION) {
        return Err(ImportError::TooLarge { path: path.to_owned(), tensors, file });
    }
    Ok(reader)
}

/// Converts numbers in this machine's byte order to f32; `None` when they are not floating-point
/// numbers.
fn floats(dtype: DType, bytes: &[u8]) -> Option<Vec<f32>> {
    fn each<const N: usize>(bytes: &[u8], number: fn([u8; N]) -> f32) -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|&chunk| number(chunk)).collect()
    }
    match dtype {
        DType::F32 => Some(each(bytes, f32::from_ne_bytes)),
        DType::F16 => Some(each(bytes, |two| f16::from_ne_bytes(two).to_f32())),
        DType::BF16 => Some(each(bytes, |two| bf16::from_ne_bytes(two).to_f32())),
        DType::F64 => Some(each(bytes, |eight| f64::from_ne_bytes(eight) as f32)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
