//! The processes of one training run: sums and broadcasts between them.
//!
//! Two libraries do the work. gloo, of which libtorch has its own copy, sums host memory over TCP.
//! NCCL sums gradients between GPUs. A crate of its own, so that a build without the feature
//! `collectives` of `restain-train` compiles none of it. It leaves out what a run does with the
//! sums: that is `restain-train`'s `world`.
//!
//! Sums do not overlap with the backward pass, no process is restarted, and none may join later.

#![expect(unsafe_code, reason = "a tensor's memory as a slice")]
#![warn(missing_docs)]

mod gloo;
mod nccl;

use std::time::Duration;

use anyhow::{Context, Result};
use tch::{Device, Tensor};

use gloo::Gloo;
use nccl::{Nccl, UniqueId};
use restain_torch::place::Place;

/// The longest wait for the other processes, at the start and in each call. The first process also
/// writes the state in between.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Gradients summed in one call, f32: 25 MiB, beyond which larger calls gain nothing.
const BUCKET_FLOATS: usize = (25 << 20) / 4;

/// The message when another process has left; the causes say how.
const GONE: &str =
    "another process of this run has ended or cannot be reached; the last saved state stands";

/// This process and its connections to the others.
pub struct Group {
    rank: usize,
    size: usize,
    gloo: Gloo,
    nccl: Option<Nccl>,
}

impl Group {
    /// Connects to all processes of the run and waits for them, at most ten minutes.
    ///
    /// # Errors
    /// When a process does not come in time, or NCCL cannot be opened on a CUDA device.
    pub fn join(place: &Place, device: Device) -> Result<Self> {
        let (rank, size) = (place.rank, place.size);
        let gloo = Gloo::join(place, TIMEOUT.as_secs() as u32).with_context(|| {
            format!(
                "process {rank} of {size} cannot connect to the others at {}:{}",
                place.address, place.port
            )
        })?;
        let nccl = match device {
            Device::Cuda(index) => Some(join_gpus(&gloo, place, index)?),
            _ => None,
        };
        Ok(Self { rank, size, gloo, nccl })
    }

    /// Returns this process's number, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Returns how many processes the run has.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Sums `data` over all processes, in place in each.
    ///
    /// # Errors
    /// When another process has ended or cannot be reached.
    pub fn sum(&self, data: &mut [f32]) -> Result<()> {
        self.gloo.sum(data).context(GONE)
    }

    /// Copies `data` of process 0 into `data` of every process.
    ///
    /// # Errors
    /// When another process has ended or cannot be reached.
    pub fn broadcast(&self, data: &mut [u8]) -> Result<()> {
        self.gloo.broadcast(data).context(GONE)
    }

    /// Sums every tensor over all processes, in place in each: over NCCL on a GPU, over gloo on the
    /// CPU.
    ///
    /// # Shapes
    /// Any; f32, all on one device, the same list in every process.
    ///
    /// # Errors
    /// When another process has ended or cannot be reached.
    pub fn sum_tensors(&self, tensors: &[Tensor]) -> Result<()> {
        let buckets = buckets(tensors);
        let mut flat: Vec<Tensor> = buckets
            .iter()
            .map(|held| Tensor::cat(&held.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0))
            .collect();
        match &self.nccl {
            Some(nccl) => nccl.sum(&flat).context(GONE)?,
            None => flat.iter_mut().try_for_each(|bucket| self.sum(floats(bucket)))?,
        }
        for (held, sum) in buckets.iter().zip(&flat) {
            let sizes: Vec<i64> = held.iter().map(|g| g.numel() as i64).collect();
            for (tensor, part) in held.iter().zip(sum.split_with_sizes(sizes, 0)) {
                tensor.shallow_clone().copy_(&part.view_as(tensor));
            }
        }
        Ok(())
    }
}

/// Splits the tensors, in their order, into groups of at most [`BUCKET_FLOATS`]; a larger tensor is
/// a group of its own.
fn buckets(tensors: &[Tensor]) -> Vec<&[Tensor]> {
    let mut held = 0;
    let mut first = true;
    let full = |before: &Tensor, next: &Tensor| {
        if std::mem::take(&mut first) {
            held = before.numel();
        }
        held += next.numel();
        let fits = held <= BUCKET_FLOATS;
        held = if fits { held } else { next.numel() };
        fits
    };
    tensors.chunk_by(full).collect()
}

/// Returns the memory of a contiguous f32 tensor on the CPU.
fn floats(tensor: &mut Tensor) -> &mut [f32] {
    assert!(
        tensor.kind() == tch::Kind::Float
            && tensor.is_contiguous()
            && tensor.device() == Device::Cpu,
        "a bucket is a contiguous f32 tensor on the CPU"
    );
    // SAFETY: asserted above; the tensor is borrowed as long as the slice.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

/// Connects the GPUs: process 0 makes NCCL's id, and all join by it.
fn join_gpus(gloo: &Gloo, place: &Place, index: usize) -> Result<Nccl> {
    gloo::select_cuda(index)?;
    let mut id = if place.rank == 0 { nccl::unique_id()? } else { UniqueId([0; 128]) };
    gloo.broadcast(&mut id.0).context(GONE)?;
    Nccl::join(id, place.rank, place.size, index, TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_no_more_than_its_size() {
        let half = BUCKET_FLOATS as i64 / 2;
        let sizes = [half, half, half + 1, half, 3 * half, 1];
        let tensors = sizes.map(|size| Tensor::empty([size], (tch::Kind::Float, Device::Cpu)));
        let counts: Vec<usize> = buckets(&tensors).iter().map(|bucket| bucket.len()).collect();
        assert_eq!(counts, [2, 1, 1, 1, 1]);
    }
}
