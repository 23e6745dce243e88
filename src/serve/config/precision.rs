//! Which of a bundle's encoders runs, as people write it: `auto`, `fp32`, `fp16`, `int8`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use restain_bundle::{Bundle, BundleError, Precision};
use restain_engine::Device;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// fp16 on a GPU where the bundle has it, fp32 otherwise.
    Auto,
    Always(Precision),
}

impl PrecisionChoice {
    /// The precision on `device`, and the graph that computes it. TensorRT makes fp16 of the fp32
    /// graph by itself: the fp16 graph has operators that only ONNX Runtime knows.
    ///
    /// # Errors
    /// When the bundle has no such encoder.
    pub fn graph(
        self,
        bundle: &Bundle,
        device: Device,
    ) -> Result<(Precision, PathBuf), BundleError> {
        let has_fp16 = bundle.manifest.encoders.contains_key(&Precision::Fp16);
        let precision = match (self, device) {
            (Self::Always(precision), _) => precision,
            (Self::Auto, Device::Cuda(_)) if has_fp16 => Precision::Fp16,
            (Self::Auto, Device::TensorRt(_)) => Precision::Fp16,
            (Self::Auto, _) => Precision::Fp32,
        };
        let graph = match (precision, device) {
            (Precision::Fp16, Device::TensorRt(_)) => Precision::Fp32,
            _ => precision,
        };
        Ok((precision, bundle.encoder_path(graph)?))
    }
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Always(precision) => precision.fmt(f),
        }
    }
}

impl FromStr for PrecisionChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text
                .parse()
                .map(Self::Always)
                .map_err(|_| "must be auto, fp32, fp16 or int8".to_owned()),
        }
    }
}
