//! The device and the precision that training computes in.

#![expect(unsafe_code, reason = "libtorch_cuda is opened at run time")]

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind};

/// A device as the user chose it: `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// This process's CUDA device if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by its index; without an index, process n of a machine takes device n.
    Cuda(Option<usize>),
}

impl FromStr for DeviceChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(None)),
            (_, Some(Ok(index))) => Ok(Self::Cuda(Some(index))),
            _ => Err(format!("{text:?} is not a device: use `auto`, `cpu`, `cuda` or `cuda:N`")),
        }
    }
}

impl DeviceChoice {
    /// Opens the device. `local_rank` is the index of this process among those on this machine,
    /// from 0.
    ///
    /// # Errors
    /// If CUDA was asked for and libtorch has no CUDA library, or fewer devices.
    pub fn open(self, local_rank: usize) -> Result<Device> {
        if self == Self::Cpu {
            return Ok(Device::Cpu);
        }
        // The linker drops libtorch_cuda, because no symbol of it is used. Opened here, one binary
        // serves machines with and without CUDA.
        let loaded = open_global("libtorch_cuda.so");
        let index = match self {
            Self::Cuda(Some(index)) => index,
            _ => local_rank,
        };
        match self {
            Self::Cuda(_) if loaded.is_err() => Err(loaded.expect_err("just checked"))
                .context("--device cuda: cannot open libtorch_cuda.so"),
            Self::Auto if !Cuda::is_available() => Ok(Device::Cpu),
            _ if index as i64 >= Cuda::device_count() => {
                bail!(
                    "--device (or LOCAL_RANK) asks for cuda:{index}, and libtorch finds {} CUDA \
                    devices",
                    Cuda::device_count()
                )
            }
            _ => Ok(Device::Cuda(index)),
        }
    }
}

/// Opens a library with its symbols visible to the whole process, and keeps it open.
fn open_global(name: &str) -> Result<()> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: this is libtorch's own library, whose initialisers run at the start of every program
    // that links it.
    let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }?;
    std::mem::forget(library);
    Ok(())
}

/// The data type of matrix products: `--precision`. Weights, optimiser state and losses stay f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ComputePrecision {
    /// f32.
    F32,
    /// bf16: several times faster on CUDA and on CPUs with AMX or AVX512-BF16, slower on others.
    Bf16,
}

impl ComputePrecision {
    /// Returns libtorch's name of the data type.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

/// Describes what a run computes on, for the provenance: device, data type, processor and its
/// cores.
pub fn describe(device: Device, precision: Kind) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    format!(
        "{} {}, {}, {cores} cores",
        device_name(device),
        kind_name(precision),
        name.unwrap_or(std::env::consts::ARCH)
    )
}

/// Returns the name of a device as PyTorch and `--device` spell it: `cpu`, `cuda:0`.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Returns the name of a compute precision as `--precision` spells it: `f32`, `bf16`.
fn kind_name(kind: Kind) -> String {
    match kind {
        Kind::Float => "f32".to_owned(),
        Kind::BFloat16 => "bf16".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}
