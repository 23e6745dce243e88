//! The device that an encoder runs on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `cpu`, `cuda:N` for the N-th NVIDIA GPU as CUDA counts them, or `tensorrt:N` for the same
/// through TensorRT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU through CUDA.
    Cuda(u16),
    /// An NVIDIA GPU through TensorRT.
    TensorRt(u16),
}

impl Device {
    /// Returns the name of ONNX Runtime's execution provider that metrics and the list of models
    /// use.
    pub fn provider(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
            Self::TensorRt(_) => "tensorrt",
        }
    }

    /// Returns the number of the GPU; `None` for the CPU.
    pub fn gpu(self) -> Option<u16> {
        match self {
            Self::Cpu => None,
            Self::Cuda(index) | Self::TensorRt(index) => Some(index),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.provider())?;
        self.gpu().map_or(Ok(()), |index| write!(f, ":{index}"))
    }
}

impl FromStr for Device {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not a device: use cpu, cuda:0 for the first GPU, or tensorrt:0")
        };
        let (provider, index) = text.split_once(':').unwrap_or((text, "0"));
        let index = index.parse().map_err(|_| wrong())?;
        match provider {
            "cpu" if text == "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(index)),
            "tensorrt" => Ok(Self::TensorRt(index)),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_read_as_it_is_written() {
        for text in ["cpu", "cuda:0", "cuda:11", "tensorrt:1"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for wrong in ["gpu", "cpu:0", "cuda:", "cuda:x", ""] {
            assert!(wrong.parse::<Device>().unwrap_err().contains("cuda:0"), "{wrong}");
        }
    }
}
