//! Takes the place of `restain-collectives` in a build without it: a type that has no value, so
//! that a run of many processes cannot begin.

use anyhow::{Result, bail};
use tch::{Device, Tensor};

use restain_torch::place::Place;

pub(crate) enum Group {}

#[cfg_attr(feature = "collectives", expect(dead_code, reason = "only the test below uses it"))]
impl Group {
    /// Fails: this build has no collectives.
    pub(super) fn join(place: &Place, _: Device) -> Result<Self> {
        bail!(
            "--world-size (WORLD_SIZE) is {}, and this restain-train was built without the feature \
            `collectives`: train with one process, or build it with `make train \
            FEATURES=collectives` (cargo build --release -p restain-train --features collectives)",
            place.size
        )
    }

    pub(super) fn rank(&self) -> usize {
        match *self {}
    }

    pub(super) fn size(&self) -> usize {
        match *self {}
    }

    pub(super) fn sum(&self, _: &mut [f32]) -> Result<()> {
        match *self {}
    }

    pub(super) fn broadcast(&self, _: &mut [u8]) -> Result<()> {
        match *self {}
    }

    pub(super) fn sum_tensors(&self, _: &[Tensor]) -> Result<()> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_collectives_names_the_feature() {
        let place = Place {
            rank: 0,
            size: 2,
            address: "node-0".into(),
            port: 29500,
            serves: true,
            attempt: "restain/0".into(),
        };
        let error = Group::join(&place, Device::Cpu).err().unwrap().to_string();
        assert!(
            error.contains("WORLD_SIZE) is 2") && error.contains("--features collectives"),
            "{error}"
        );
    }
}
