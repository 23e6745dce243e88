//! The processes of one run, each with a batch of its own, that take every optimiser step together.
//!
//! Data-parallel training: gradients are summed over all processes after the last accumulated batch, and every process
//! takes the same step from the same weights. A run is defined by the batches of an update, not by who computes them: W
//! processes with A batches each are the same run as one process with A·W, tile by tile and mix by mix.
//!
//! Two collectives: gloo over TCP for host memory and for what must be agreed on, NCCL for gradients on GPUs. Sums do
//! not overlap with the backward pass, nothing restarts a process, and none may join later: whoever starts the processes
//! starts them again, with `resume`.

#![expect(unsafe_code, reason = "a tensor's memory as a slice")]

mod gloo;
mod nccl;
pub(crate) mod options;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tch::{Device, Tensor};

use crate::world::gloo::Gloo;
use crate::world::nccl::{Nccl, UniqueId};
use crate::world::options::Place;

/// For the others to come, and for each answer of theirs: the first process also writes the state meanwhile.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Gradients summed in one call, f32: 25 MiB, beyond which larger calls gain nothing.
const BUCKET_FLOATS: usize = (25 << 20) / 4;

/// What a process says when another has left: how is in the causes.
const GONE: &str =
    "another process of this run has ended or cannot be reached; the last saved state stands";

pub(crate) enum World {
    Alone,
    Many(Group),
}

/// This process and its connections.
pub(crate) struct Group {
    rank: usize,
    size: usize,
    gloo: Gloo,
    nccl: Option<Nccl>,
}

impl World {
    /// Waits for all processes of the run.
    pub(crate) fn join(place: Option<&Place>, device: Device) -> Result<Self> {
        let Some(place) = place else { return Ok(Self::Alone) };
        let (rank, size) = (place.rank, place.size);
        let gloo = Gloo::join(place, TIMEOUT.as_secs() as u32);
        let gloo = gloo.with_context(|| {
            format!(
                "process {rank} of {size} cannot meet the others at {}:{}",
                place.address, place.port
            )
        })?;
        let nccl = match device {
            Device::Cuda(index) => Some(join_gpus(&gloo, place, index)?),
            _ => None,
        };
        Ok(Self::Many(Group { rank, size, gloo, nccl }))
    }

    pub(crate) fn rank(&self) -> usize {
        match self {
            Self::Alone => 0,
            Self::Many(group) => group.rank,
        }
    }

    /// Processes of the run.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Alone => 1,
            Self::Many(group) => group.size,
        }
    }

    /// Whether this is the process that writes and reports.
    pub(crate) fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// This process's part of the batches of an update.
    pub(crate) fn share(&self, batches: usize) -> Result<usize> {
        let size = self.size();
        let even = batches.is_multiple_of(size);
        ensure!(
            even,
            "an update of this run is made of {batches} batches (--grad-accum-steps × processes), which {size} processes cannot share"
        );
        Ok(batches / size)
    }

    /// Whether it is so in any process; every process gets the same answer.
    pub(crate) fn any(&self, here: bool) -> Result<bool> {
        let Self::Many(group) = self else { return Ok(here) };
        let mut flag = [f32::from(u8::from(here))];
        group.gloo.sum(&mut flag).context(GONE)?;
        Ok(flag[0] > 0.0)
    }

    /// Refuses, in every process, to go on with processes that hold something else than the first.
    pub(crate) fn agree(&self, what: &[u8]) -> Result<()> {
        let Self::Many(group) = self else { return Ok(()) };
        let own = *blake3::hash(what).as_bytes();
        let mut first = own;
        group.gloo.broadcast(&mut first).context(GONE)?;
        let differ = self.any(own != first)?;
        ensure!(
            own == first,
            "process {} has another run than process 0: give all the same options, images and state",
            group.rank
        );
        ensure!(
            !differ,
            "the processes have not all the same run: give all the same options, images and state"
        );
        Ok(())
    }

    /// Sums every gradient over all processes, in place. Parameters f32, on one device, the same in every process.
    pub(crate) fn sum_gradients(&self, parameters: &[(String, Tensor)]) -> Result<()> {
        let Self::Many(group) = self else { return Ok(()) };
        let gradients: Vec<Tensor> =
            parameters.iter().map(|(_, p)| p.grad()).filter(Tensor::defined).collect();
        let groups = buckets(&gradients);
        let mut flat: Vec<Tensor> = groups
            .iter()
            .map(|held| Tensor::cat(&held.iter().map(|g| g.reshape([-1])).collect::<Vec<_>>(), 0))
            .collect();
        match &group.nccl {
            Some(nccl) => nccl.sum(&flat).context(GONE)?,
            None => flat
                .iter_mut()
                .try_for_each(|bucket| group.gloo.sum(floats(bucket)).context(GONE))?,
        }
        for (held, sum) in groups.iter().zip(&flat) {
            let sizes: Vec<i64> = held.iter().map(|g| g.numel() as i64).collect();
            for (gradient, part) in held.iter().zip(sum.split_with_sizes(sizes, 0)) {
                gradient.shallow_clone().copy_(&part.view_as(gradient));
            }
        }
        Ok(())
    }
}

/// Gradients in their order, together as far as a bucket holds them.
fn buckets(gradients: &[Tensor]) -> Vec<&[Tensor]> {
    let mut held = 0;
    let full = |_: &Tensor, next: &Tensor| {
        held += next.numel();
        let fits = held <= BUCKET_FLOATS;
        held = if fits { held } else { next.numel() };
        fits
    };
    gradients.chunk_by(full).collect()
}

/// The memory of a contiguous f32 tensor on the CPU.
fn floats(tensor: &mut Tensor) -> &mut [f32] {
    assert!(
        tensor.kind() == tch::Kind::Float
            && tensor.is_contiguous()
            && tensor.device() == Device::Cpu,
        "a bucket on the CPU"
    );
    // SAFETY: asserted above; the tensor is borrowed as long as the slice.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) }
}

/// One process makes NCCL's id, and all join by it.
fn join_gpus(gloo: &Gloo, place: &Place, index: usize) -> Result<Nccl> {
    gloo::select_cuda(index)?;
    let mut id = if place.rank == 0 { nccl::unique_id()? } else { UniqueId([0; 128]) };
    gloo.broadcast(&mut id.0).context(GONE)?;
    Nccl::join(id, place.rank, place.size, index, TIMEOUT)
}
