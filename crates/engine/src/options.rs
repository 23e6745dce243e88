//! The options of an encoder: on which device it runs, and with how much of it.

use std::path::PathBuf;
use std::time::Duration;

use super::Device;

/// Options of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderOptions {
    /// The device that computes.
    pub device: Device,
    /// CPU threads that share one `encode`; 0 leaves the number to the runtime.
    pub intra_threads: usize,
    /// Upper bound of GPU memory for weights and activations, in bytes.
    pub gpu_memory: Option<usize>,
    /// TensorRT only: compute an fp32 graph in fp16.
    pub half: bool,
    /// TensorRT only: the largest batch.
    pub largest_batch: usize,
    /// TensorRT only: the directory that caches its engines, which take minutes to build.
    pub engines: Option<PathBuf>,
    /// Stop a run that takes longer, unless the device is TensorRT's, whose first runs build
    /// engines.
    pub run_limit: Option<Duration>,
}

impl EncoderOptions {
    /// Returns options for the CPU; 0 threads leave the number to the runtime.
    pub fn cpu(intra_threads: usize) -> Self {
        Self::on(Device::Cpu, intra_threads)
    }

    /// Returns options for a device, without a bound on its memory.
    pub fn on(device: Device, intra_threads: usize) -> Self {
        Self {
            device,
            intra_threads,
            gpu_memory: None,
            half: false,
            largest_batch: 1,
            engines: None,
            run_limit: None,
        }
    }
}
