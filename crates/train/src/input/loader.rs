//! The loader: batches that the data set's threads make ahead of the training loop.
//!
//! Several batches are made at the same time, so that a small batch or a slow tile leaves no thread
//! idle; they are returned in order. The number of batches ahead is limited by memory.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Result;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::input::transforms::{TransformConfig, training_tile};
use crate::objective::paired::pairs::{Pairs, Plan};
use crate::objective::scene::Batch;
use restain_data::Dataset;
use restain_method::Normalisation;

/// Memory for batches that are ready or being made.
const AHEAD_BYTES: usize = 256 << 20;
/// More batches ahead than this do not help.
const MOST_AHEAD: usize = 16;

/// The batches of one process: `first`, `first + every`, …
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turns {
    pub first: u64,
    /// The number of processes that share the batches.
    pub every: usize,
}

/// What the batches of a run are drawn from.
#[derive(Clone)]
pub(crate) enum BatchSource {
    /// Single tiles of a data set.
    Tiles(Arc<Dataset>, TransformConfig),
    /// Pairs of tiles: the first half of a batch is every Xa, the second every Xb.
    Pairs(Arc<Pairs<Arc<Dataset>>>),
}

/// A batch before it is standardised.
struct RawBatch {
    /// u8 [batch, H, W, 3].
    pixels: Vec<u8>,
    /// `None` for single tiles.
    plan: Option<Plan>,
}

impl BatchSource {
    /// Returns the threads that make batches.
    fn workers(&self) -> &rayon::ThreadPool {
        match self {
            Self::Tiles(dataset, _) => dataset.workers(),
            Self::Pairs(pairs) => pairs.workers(),
        }
    }

    /// Makes batch `step` of `batch` tiles.
    fn make(&self, batch: usize, seed: u64, step: u64) -> Result<RawBatch> {
        match self {
            Self::Tiles(dataset, transforms) => {
                let pixels = make(dataset, transforms, batch, seed, step)?;
                Ok(RawBatch { pixels, plan: None })
            }
            Self::Pairs(pairs) => {
                let made = pairs.batch(seed, step * (batch / 2) as u64, batch / 2)?;
                Ok(RawBatch { pixels: made.pixels, plan: Some(made.plan) })
            }
        }
    }
}

/// An endless stream of batches, u8 [batch, H, W, 3]. Batch s consists of the draws s·batch ..
/// (s+1)·batch, or of half as many pairs.
pub(crate) struct Loader {
    /// For each batch, in order, the channel that it will arrive on.
    batches: Receiver<Receiver<Result<RawBatch>>>,
    batch: usize,
    tile: usize,
}

impl Loader {
    /// Starts making batches of `batch` tiles of `tile` pixels a side. `seed` and the number of a
    /// batch determine it, whichever thread makes it.
    pub(crate) fn start(
        source: BatchSource,
        tile: usize,
        batch: usize,
        seed: u64,
        turns: Turns,
    ) -> Self {
        let ahead = (AHEAD_BYTES / (batch * tile * tile * 3)).clamp(2, MOST_AHEAD);
        // The thread below holds one more.
        let (sender, batches) = sync_channel(ahead - 1);
        std::thread::spawn(move || {
            for step in (turns.first..).step_by(turns.every) {
                let (made, coming) = sync_channel(1);
                // The loader was dropped.
                if sender.send(coming).is_err() {
                    return;
                }
                let shared = source.clone();
                source.workers().spawn(move || _ = made.send(shared.make(batch, seed, step)));
            }
        });
        Self { batches, batch, tile }
    }

    /// Waits for the next batch and standardises it: f32 [B, C, H, W] on `device`.
    ///
    /// # Errors
    /// If more images are damaged than the data set allows.
    pub(crate) fn next(&self, normalisation: &Normalisation, device: Device) -> Result<Batch> {
        let coming = self.batches.recv().expect("the loader runs as long as its receiver");
        let raw = coming.recv().expect("a worker sends what it made")?;
        let tiles = standardise(&raw.pixels, self.batch, self.tile, normalisation, device);
        Ok(Batch { tiles, plan: raw.plan })
    }
}

/// Makes batch `step`: u8 [batch, H, W, 3].
fn make(
    dataset: &Dataset,
    transforms: &TransformConfig,
    batch: usize,
    seed: u64,
    step: u64,
) -> Result<Vec<u8>> {
    let tile_bytes = (transforms.tile * transforms.tile * 3) as usize;
    let mut raw = vec![0; batch * tile_bytes];
    raw.par_chunks_exact_mut(tile_bytes).enumerate().try_for_each(|(i, tile)| {
        let (image, mut rng) = dataset.draw_image(seed, step * batch as u64 + i as u64)?;
        tile.copy_from_slice(training_tile(&image, transforms, &mut rng).as_raw());
        anyhow::Ok(())
    })?;
    Ok(raw)
}

/// Standardises tiles by `normalisation`: u8 [batch, H, W, 3] → f32 [B, C, H, W] on `device`.
pub(crate) fn standardise(
    raw: &[u8],
    batch: usize,
    tile: usize,
    normalisation: &Normalisation,
    device: Device,
) -> Tensor {
    let (batch, tile) = (batch as i64, tile as i64);
    let channels =
        |values: &[f32; 3]| Tensor::from_slice(values).view([1, 3, 1, 1]).to_device(device);
    let raw = Tensor::from_slice(raw).view([batch, tile, tile, 3]);
    // From pinned memory a GPU copies asynchronously.
    let raw = if device.is_cuda() {
        raw.pin_memory(device).to_device_(device, Kind::Uint8, true, false)
    } else {
        raw
    };
    let pixels = raw.permute([0, 3, 1, 2]).to_kind(Kind::Float);
    ((pixels / 255.0 - channels(&normalisation.mean)) / channels(&normalisation.std)).contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use restain_data::Selection;

    fn loader(dir: &tempfile::TempDir, workers: usize, first_step: u64) -> Loader {
        let dataset =
            Dataset::open(dir.path(), &Selection { workers, ..Selection::default() }).unwrap();
        Loader::start(
            BatchSource::Tiles(Arc::new(dataset), TransformConfig::published(16)),
            16,
            3,
            5,
            Turns { first: first_step, every: 1 },
        )
    }

    #[test]
    fn batches_depend_neither_on_the_number_of_threads_nor_on_the_first_step() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..4u8 {
            let image = image::RgbImage::from_fn(24, 24, |x, y| {
                image::Rgb([x as u8 * 9, y as u8 * 9, 60 * i])
            });
            image.save(dir.path().join(format!("{i}.png"))).unwrap();
        }
        let normalisation = Normalisation::new([0.5; 3], [0.25; 3]).unwrap();
        let [one, four, later] =
            [(1, 0), (4, 0), (2, 10)].map(|(workers, first)| loader(&dir, workers, first));
        let next = |loader: &Loader| loader.next(&normalisation, Device::Cpu).unwrap().tiles;
        for step in 0..20 {
            let batch = next(&one);
            assert_eq!(batch.size(), [3, 3, 16, 16]);
            assert_eq!(batch, next(&four), "batch {step}");
            if step >= 10 {
                assert_eq!(batch, next(&later), "batch {step}");
            }
        }
    }
}
