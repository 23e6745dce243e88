//! Where the arithmetic of training runs, and in which precision.

#![expect(unsafe_code, reason = "a library is loaded")]

use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind};

/// `--device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// This process's CUDA device where there is one, the CPU elsewhere.
    Auto,
    Cpu,
    /// By its number; without one the process's own: the first, the second process of a machine takes the second, …
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
            _ => Err(format!("{text:?} is not a device: use auto, cpu, cuda or cuda:N")),
        }
    }
}

impl DeviceChoice {
    /// `local_rank`: which of the processes of this machine asks, 0 where there is one.
    pub fn open(self, local_rank: usize) -> Result<Device> {
        if self == Self::Cpu {
            return Ok(Device::Cpu);
        }
        // The linker drops a libtorch_cuda that no symbol asks for; opened by hand, one binary serves both machines.
        let loaded = open_global("libtorch_cuda.so");
        let index = match self {
            Self::Cuda(Some(index)) => index,
            _ => local_rank,
        };
        match self {
            Self::Cuda(_) if loaded.is_err() => Err(loaded.expect_err("just checked"))
                .context("--device cuda: libtorch_cuda.so cannot be opened"),
            Self::Auto if !Cuda::is_available() => Ok(Device::Cpu),
            _ if index as i64 >= Cuda::device_count() => {
                bail!(
                    "cuda:{index} is asked for (--device, LOCAL_RANK), and libtorch sees {} CUDA devices",
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
    // SAFETY: libtorch's own library, whose initialisers are what every program linked with it runs at start.
    let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_GLOBAL) }?;
    std::mem::forget(library);
    Ok(())
}

/// `--precision`: what matrix products are computed in. Weights, optimiser and losses stay f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ComputePrecision {
    F32,
    /// Several times faster on CUDA and on CPUs with AMX or AVX512-BF16, slower on others.
    Bf16,
}

impl ComputePrecision {
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

/// What a run computes on, for the provenance: device, precision, processor and its cores.
pub fn describe(device: Device, precision: Kind) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    format!("{device:?} {precision:?}, {}, {cores} cores", name.unwrap_or(std::env::consts::ARCH))
}
