//! The processes of one run, each with a batch of its own, that take every optimiser step together.
//!
//! Data-parallel training: gradients are summed over all processes after the last accumulated
//! batch, and every process takes the same step from the same weights. A run is defined by the
//! batches of an update, not by which process computes them: W processes with A batches each are
//! the same run as one process with A·W, tile by tile and mix by mix.
//!
//! The sums themselves are in `restain-collectives`, which only the feature `collectives` compiles.
//! Without it a run has one process, and [`World::join`] rejects more. No process is restarted and
//! none may join later: whatever starts the processes starts them again, with `resume`.

#[cfg(any(test, not(feature = "collectives")))]
mod absent;
pub(crate) mod options;

use anyhow::{Result, ensure};
use tch::{Device, Tensor};

#[cfg(not(feature = "collectives"))]
use absent::Group;
#[cfg(feature = "collectives")]
use restain_collectives::Group;
use restain_torch::place::Place;

pub(crate) enum World {
    Alone,
    Many(Group),
}

impl World {
    /// Waits for all processes of the run.
    pub(crate) fn join(place: Option<&Place>, device: Device) -> Result<Self> {
        match place {
            None => Ok(Self::Alone),
            Some(place) => Group::join(place, device).map(Self::Many),
        }
    }

    pub(crate) fn rank(&self) -> usize {
        match self {
            Self::Alone => 0,
            Self::Many(group) => group.rank(),
        }
    }

    /// Processes of the run.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Alone => 1,
            Self::Many(group) => group.size(),
        }
    }

    /// Whether this is the process that writes and reports.
    pub(crate) fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Returns how many of the batches of an update this process computes.
    pub(crate) fn share(&self, batches: usize) -> Result<usize> {
        let size = self.size();
        let even = batches.is_multiple_of(size);
        ensure!(
            even,
            "an update of this run is made of {batches} batches (--grad-accum-steps × processes), \
            which {size} processes cannot share"
        );
        Ok(batches / size)
    }

    /// Returns whether `here` is true in any process; every process gets the same answer.
    pub(crate) fn any(&self, here: bool) -> Result<bool> {
        let Self::Many(group) = self else { return Ok(here) };
        let mut flag = [f32::from(u8::from(here))];
        group.sum(&mut flag)?;
        Ok(flag[0] > 0.0)
    }

    /// Fails in every process unless `what` is the same in all of them.
    pub(crate) fn agree(&self, what: &[u8]) -> Result<()> {
        let Self::Many(group) = self else { return Ok(()) };
        let own = *blake3::hash(what).as_bytes();
        let mut first = own;
        group.broadcast(&mut first)?;
        let differ = self.any(own != first)?;
        ensure!(
            own == first,
            "process {} has another run than process 0: give all the same options, images and \
            state",
            group.rank()
        );
        ensure!(
            !differ,
            "the processes have not all the same run: give all the same options, images and state"
        );
        Ok(())
    }

    /// Sums every gradient over all processes, in place. Parameters f32, on one device, the same in
    /// every process.
    pub(crate) fn sum_gradients(&self, parameters: &[(String, Tensor)]) -> Result<()> {
        let Self::Many(group) = self else { return Ok(()) };
        let gradients: Vec<Tensor> =
            parameters.iter().map(|(_, p)| p.grad()).filter(Tensor::defined).collect();
        group.sum_tensors(&gradients)
    }
}
