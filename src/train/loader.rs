//! Batches, made ahead of the trainer by threads of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Result;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::method::Normalisation;
use crate::train::augment::{AugmentConfig, training_tile};
use crate::train::dataset::Dataset;

/// Batches in flight: one being trained on, one waiting, one being made.
const AHEAD: usize = 2;

/// An endless stream of raw batches, u8 [batch, H, W, 3]. Batch s holds draws s·batch .. (s+1)·batch.
pub struct Loader {
    batches: Receiver<Result<Vec<u8>>>,
    batch: usize,
    tile: usize,
}

impl Loader {
    pub fn start(dataset: Arc<Dataset>, augment: AugmentConfig, batch: usize, seed: u64, first_step: u64) -> Self {
        let (sender, batches) = sync_channel(AHEAD);
        let tile = augment.tile as usize;
        std::thread::spawn(move || {
            for step in first_step.. {
                let made = (0..batch as u64)
                    .into_par_iter()
                    .map(|i| {
                        let (source, mut rng) = dataset.draw(seed, step * batch as u64 + i);
                        Ok(training_tile(dataset.image(source)?.as_ref(), &augment, &mut rng).into_raw())
                    })
                    .collect::<Result<Vec<_>>>();
                // The trainer is gone: so is the need for batches.
                if sender.send(made.map(|tiles| tiles.concat())).is_err() {
                    return;
                }
            }
        });
        Self { batches, batch, tile }
    }

    /// The next batch, standardised: [B, C, H, W] f32 on `device`.
    pub fn next(&self, normalisation: &Normalisation, device: Device) -> Result<Tensor> {
        let raw = self.batches.recv().expect("the loader runs as long as its receiver")?;
        Ok(standardise(&raw, self.batch, self.tile, normalisation, device))
    }
}

/// u8 [batch, H, W, 3] → [B, C, H, W] f32, mean 0 and deviation 1 under `normalisation`.
pub fn standardise(raw: &[u8], batch: usize, tile: usize, normalisation: &Normalisation, device: Device) -> Tensor {
    let (batch, tile) = (batch as i64, tile as i64);
    let channels = |values: &[f32; 3]| Tensor::from_slice(values).view([1, 3, 1, 1]).to_device(device);
    let pixels = Tensor::from_slice(raw).view([batch, tile, tile, 3]).to_device(device).permute([0, 3, 1, 2]).to_kind(Kind::Float);
    ((pixels / 255.0 - channels(&normalisation.mean)) / channels(&normalisation.std)).contiguous()
}
