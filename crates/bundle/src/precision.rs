//! The precisions of encoder graphs, and the files that hold them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The numbers that an encoder graph computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 throughout.
    Fp32,
    /// f16, with sums in f32.
    Fp16,
    /// int8 in the linear layers, f32 elsewhere.
    Int8,
}

impl Precision {
    /// All precisions.
    pub const ALL: [Self; 3] = [Self::Fp32, Self::Fp16, Self::Int8];

    /// Returns the file name of the graph in a bundle.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Fp32 => "encoder.onnx",
            Self::Fp16 => "encoder.fp16.onnx",
            Self::Int8 => "encoder.int8.onnx",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        })
    }
}

impl FromStr for Precision {
    type Err = UnknownPrecision;
    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.to_string() == text)
            .ok_or_else(|| UnknownPrecision(text.to_owned()))
    }
}

/// The error of a name that is none of a precision.
#[derive(Debug, thiserror::Error)]
#[error("precision is {0:?}, and must be fp32, fp16 or int8")]
pub struct UnknownPrecision(String);
