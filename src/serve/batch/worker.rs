//! The threads of one device: one owns the encoder and runs it, the other assembles what it will run next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use half::f16;

use super::buckets::Buckets;
use super::message::{BatchError, Encode, Encoded, Failure, Shelf, TileEncoding};
use super::shared::Shared;
use crate::codec::TileKey;
use crate::method::Geometry;
use crate::serve::metrics::Metrics;

/// What all workers of a bundle have in common.
#[derive(Clone)]
pub struct WorkerOptions {
    /// For the names of the threads.
    pub name: String,
    pub buckets: Buckets,
    pub geometry: Geometry,
    pub shelf: Arc<dyn Shelf>,
    pub metrics: Arc<Metrics>,
}

/// Runs every size of batch once on grey tiles, and tells how long the largest took: a first, cautious measure of the
/// rate.
///
/// # Errors
/// When the encoder refuses one.
pub fn warm(encoder: &mut dyn Encode, geometry: &Geometry, buckets: &Buckets) -> Result<Duration, Failure> {
    let mut took = Duration::ZERO;
    for &size in buckets.sizes() {
        let started = Instant::now();
        encoder.encode(&vec![128; size * geometry.tile_bytes()], size, 1)?;
        took = started.elapsed();
    }
    Ok(took)
}

/// A batch that waits for the encoder.
struct Assembled {
    tiles: Vec<AssembledTile>,
    /// `[tiles, H, W, 3] u8`
    input: Vec<u8>,
}

#[derive(Clone, Copy)]
struct AssembledTile {
    key: TileKey,
    size: (u32, u32),
}

/// Starts the threads of the `index`-th worker. They end when the queue is closed and empty.
///
/// # Errors
/// When a thread cannot be started.
pub fn start(shared: Arc<Shared>, index: usize, encoder: Box<dyn Encode>, options: &WorkerOptions) -> std::io::Result<Vec<JoinHandle<()>>> {
    // One batch may wait assembled while one runs: hence two buffers, which go round.
    let (assembled, batches) = sync_channel(1);
    let (used, buffers) = channel();
    for _ in 0..2 {
        let buffer = Vec::with_capacity(options.buckets.largest() * options.geometry.tile_bytes());
        used.send(buffer).expect("the receiver is in this function");
    }
    let thread = |role: &str| std::thread::Builder::new().name(format!("{role}-{}-{index}", options.name));
    let assembler = Arc::clone(&shared);
    let assembler = thread("assemble").spawn(move || assemble(&assembler, index, &buffers, &assembled))?;
    let worker = Worker { shared, index, encoder, options: options.clone() };
    let runner = thread("encode").spawn(move || worker.run(&batches, &used))?;
    Ok(vec![assembler, runner])
}

fn assemble(shared: &Shared, index: usize, buffers: &Receiver<Vec<u8>>, assembled: &SyncSender<Assembled>) {
    while let Some(wanted) = shared.next(index) {
        let Ok(mut input) = buffers.recv() else { return };
        input.clear();
        for tile in &wanted {
            input.extend_from_slice(&tile.pixels);
        }
        let tiles = wanted.iter().map(|tile| AssembledTile { key: tile.key, size: tile.size }).collect();
        if assembled.send(Assembled { tiles, input }).is_err() {
            return;
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    index: usize,
    encoder: Box<dyn Encode>,
    options: WorkerOptions,
}

#[derive(Debug, thiserror::Error)]
#[error("the encoder panicked")]
struct Panicked;

impl Worker {
    fn run(mut self, batches: &Receiver<Assembled>, used: &Sender<Vec<u8>>) {
        for mut batch in batches {
            self.drop_unwanted(&mut batch);
            self.serve(&mut batch);
            if used.send(batch.input).is_err() {
                return;
            }
        }
    }

    /// Those who left since the batch was assembled cost no encoding.
    fn drop_unwanted(&self, batch: &mut Assembled) {
        let keys: Vec<TileKey> = batch.tiles.iter().map(|tile| tile.key).collect();
        let wanted = self.shared.still_wanted(&keys);
        let tile_bytes = self.options.geometry.tile_bytes();
        let mut kept = 0;
        for (place, _) in wanted.iter().enumerate().filter(|(_, wanted)| **wanted) {
            if place != kept {
                batch.tiles[kept] = batch.tiles[place];
                batch.input.copy_within(place * tile_bytes..(place + 1) * tile_bytes, kept * tile_bytes);
            }
            kept += 1;
        }
        batch.tiles.truncate(kept);
        batch.input.truncate(kept * tile_bytes);
    }

    fn serve(&mut self, batch: &mut Assembled) {
        let keys: Vec<TileKey> = batch.tiles.iter().map(|tile| tile.key).collect();
        if keys.is_empty() {
            self.shared.finish(self.index, &keys, None);
            return;
        }
        let started = Instant::now();
        let result = self.encode(batch);
        let took = started.elapsed();
        self.options.metrics.encoded(keys.len(), took);
        match result {
            Ok(latents) => self.answer(batch, latents, started, took),
            Err(failure) => {
                let failure: Arc<dyn std::error::Error + Send + Sync> = failure.into();
                tracing::error!(error = %failure, tiles = keys.len(), "a batch failed");
                for waiter in self.shared.finish(self.index, &keys, None).into_iter().flatten() {
                    // Who left meanwhile does not hear of it.
                    let _ = waiter.reply.send(Err(BatchError::Failed(Arc::clone(&failure))));
                }
            }
        }
    }

    fn encode(&mut self, batch: &mut Assembled) -> Result<Vec<Vec<f16>>, Failure> {
        let wanted = batch.tiles.len();
        let size = self.options.buckets.of(wanted);
        batch.input.resize(size * self.options.geometry.tile_bytes(), 0);
        // The session keeps no state between runs, so one that panicked can be asked again.
        catch_unwind(AssertUnwindSafe(|| self.encoder.encode(&batch.input, size, wanted))).unwrap_or_else(|_| Err(Panicked.into()))
    }

    fn answer(&self, batch: &Assembled, latents: Vec<Vec<f16>>, started: Instant, took: Duration) {
        let keys: Vec<TileKey> = batch.tiles.iter().map(|tile| tile.key).collect();
        let encodings: Vec<Arc<TileEncoding>> =
            batch.tiles.iter().zip(latents).map(|(tile, latents)| Arc::new(TileEncoding::new(tile.size, latents))).collect();
        // Before the flights end: see `Shelf`.
        for (key, encoding) in keys.iter().zip(&encodings) {
            self.options.shelf.keep(key, encoding);
        }
        let waited_for = self.shared.finish(self.index, &keys, Some(took));
        for (waiters, encoding) in waited_for.into_iter().zip(encodings) {
            for waiter in waiters {
                let waited = started.saturating_duration_since(waiter.queued);
                self.options.metrics.queued(waited);
                let _ = waiter.reply.send(Ok(Encoded { encoding: Arc::clone(&encoding), waited, took }));
            }
        }
    }
}
