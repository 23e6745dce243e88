//! The threads of one device: one owns the encoder and runs it, the other assembles what it will
//! run next.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use half::f16;

use super::buckets::Buckets;
use super::encoding::{TileEncoding, Whole};
use super::message::{BatchError, Encode, Encoded, Failure, Shelf, WaitedFor, WantedTile};
use super::shared::Shared;
use crate::serve::metrics::Metrics;
use crate::serve::trace::{Run, RunSpan};
use restain_bundle::codec::TileKey;
use restain_method::Geometry;
use restain_method::synth::{Scratch, Synthesiser};

/// What all workers of a bundle have in common.
#[derive(Clone)]
pub struct WorkerOptions {
    /// For the names of the threads.
    pub name: String,
    pub buckets: Buckets,
    /// Compares tiles with their reconstructions.
    pub synthesiser: Synthesiser,
    pub shelf: Arc<dyn Shelf>,
    pub metrics: Arc<Metrics>,
}

impl WorkerOptions {
    fn tile_bytes(&self) -> usize {
        self.synthesiser.geometry().tile_bytes()
    }
}

/// Runs every batch size once on grey tiles, and returns how long the largest took: a first,
/// cautious measure of the rate.
///
/// # Errors
/// When the encoder refuses one, or makes what is no number of it: one weight that is none makes
/// every encoding so.
pub fn warm(
    encoder: &mut dyn Encode,
    geometry: &Geometry,
    buckets: &Buckets,
) -> Result<Duration, Failure> {
    let mut took = Duration::ZERO;
    for &size in buckets.sizes() {
        let started = Instant::now();
        let latents = encoder.encode(&vec![128; size * geometry.tile_bytes()], size, 1)?;
        took = started.elapsed();
        if !latents.iter().flatten().all(|value| value.is_finite()) {
            return Err("its encoding of a grey tile has values that are not finite".into());
        }
    }
    Ok(took)
}

/// A batch that waits for the encoder.
struct Assembled {
    tiles: Vec<AssembledTile>,
    /// `[tiles, H, W, 3] u8`
    input: Vec<u8>,
    /// Whether its flights have ended.
    ended: bool,
}

impl Assembled {
    fn keys(&self) -> Vec<TileKey> {
        self.tiles.iter().map(|tile| tile.key).collect()
    }
}

struct AssembledTile {
    key: TileKey,
    size: (u32, u32),
    whole: Whole,
}

/// Starts the threads of the `index`-th worker. They end when the queue is closed and empty.
///
/// # Errors
/// When a thread cannot be started.
pub(super) fn start(
    shared: Arc<Shared>,
    index: usize,
    encoder: Box<dyn Encode>,
    options: &WorkerOptions,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    // One batch may wait assembled while one runs: hence two buffers, which go round.
    let (assembled, batches) = sync_channel(1);
    let (used, buffers) = channel();
    for _ in 0..2 {
        let buffer = Vec::with_capacity(options.buckets.largest() * options.tile_bytes());
        used.send(buffer).expect("the receiver is in this function");
    }
    let thread =
        |role: &str| std::thread::Builder::new().name(format!("{role}-{}-{index}", options.name));
    let assembler = Arc::clone(&shared);
    let assembler =
        thread("assemble").spawn(move || assemble(&assembler, index, &buffers, &assembled))?;
    let scratch = options.synthesiser.scratch();
    let worker = Worker { shared, index, encoder, options: options.clone(), scratch };
    let runner = thread("encode").spawn(move || worker.run(&batches, &used))?;
    Ok(vec![assembler, runner])
}

fn assemble(
    shared: &Shared,
    index: usize,
    buffers: &Receiver<Vec<u8>>,
    assembled: &SyncSender<Assembled>,
) {
    while let Some(wanted) = shared.next(index) {
        let Ok(mut input) = buffers.recv() else { return };
        input.clear();
        for tile in &wanted {
            input.extend_from_slice(&tile.seen);
        }
        let assemble = |tile: WantedTile| {
            let WantedTile { key, size, whole, .. } = tile;
            AssembledTile { key, size, whole }
        };
        let tiles = wanted.into_iter().map(assemble).collect();
        if assembled.send(Assembled { tiles, input, ended: false }).is_err() {
            return;
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    index: usize,
    encoder: Box<dyn Encode>,
    options: WorkerOptions,
    scratch: Scratch,
}

#[derive(Debug, thiserror::Error)]
#[error("its worker panicked")]
struct Panicked;

impl Worker {
    fn run(mut self, batches: &Receiver<Assembled>, used: &Sender<Vec<u8>>) {
        for mut batch in batches {
            let began = Instant::now();
            // Whatever panics, here or in the encoder: who was in the batch is answered, and who
            // waits is served by another.
            let worked = catch_unwind(AssertUnwindSafe(|| {
                self.drop_unwanted(&mut batch);
                self.serve(&mut batch);
            }));
            if worked.is_err() {
                self.fail(&mut batch, Panicked.into(), (began, began.elapsed()));
                self.replace_encoder();
            }
            if used.send(batch.input).is_err() {
                return;
            }
        }
    }

    /// Those who left since the batch was assembled cost no encoding.
    fn drop_unwanted(&self, batch: &mut Assembled) {
        let wanted = self.shared.still_wanted(&batch.keys());
        let tile_bytes = self.options.tile_bytes();
        let mut kept = 0;
        for (place, _) in wanted.iter().enumerate().filter(|(_, wanted)| **wanted) {
            if place != kept {
                batch.tiles.swap(kept, place);
                batch
                    .input
                    .copy_within(place * tile_bytes..(place + 1) * tile_bytes, kept * tile_bytes);
            }
            kept += 1;
        }
        batch.tiles.truncate(kept);
        batch.input.truncate(kept * tile_bytes);
    }

    fn serve(&mut self, batch: &mut Assembled) {
        if batch.tiles.is_empty() {
            self.end(batch, None);
            return;
        }
        let started = Instant::now();
        let result = self.encode(batch);
        let took = started.elapsed();
        self.options.metrics.encoded(batch.tiles.len(), took);
        match result {
            Ok(latents) => self.answer(batch, latents, started, took),
            Err(failure) => self.fail(batch, failure, (started, took)),
        }
    }

    /// Records a run in the traces of the requests that it was for.
    fn trace(
        &self,
        (started, took): (Instant, Duration),
        waited_for: &[WaitedFor],
        failed: bool,
    ) -> Option<RunSpan> {
        let tiles = waited_for.len();
        let run = Run { started, took, tiles, size: self.options.buckets.of(tiles), failed };
        run.record(waited_for.iter().flatten().filter_map(|waiter| waiter.asker.as_ref()))
    }

    fn encode(&mut self, batch: &mut Assembled) -> Result<Vec<Vec<f16>>, Failure> {
        let wanted = batch.tiles.len();
        let size = self.options.buckets.of(wanted);
        batch.input.resize(size * self.options.tile_bytes(), 0);
        self.encoder.encode(&batch.input, size, wanted)
    }

    fn answer(
        &mut self,
        batch: &mut Assembled,
        latents: Vec<Vec<f16>>,
        started: Instant,
        took: Duration,
    ) {
        let (synthesiser, scratch) = (&self.options.synthesiser, &mut self.scratch);
        let seen = batch.input.chunks_exact(self.options.tile_bytes());
        let keep = |((tile, latents), seen): ((&AssembledTile, Vec<f16>), &[u8])| {
            let made = (tile.size, latents);
            Arc::new(TileEncoding::of(synthesiser, scratch, made, seen, &tile.whole))
        };
        let encodings: Vec<Arc<TileEncoding>> =
            batch.tiles.iter().zip(latents).zip(seen).map(keep).collect();
        for encoding in &encodings {
            self.options.metrics.reconstructed(&self.options.name, encoding.fidelity);
        }
        // Before the flights end: see `Shelf`.
        for (tile, encoding) in batch.tiles.iter().zip(&encodings) {
            self.options.shelf.keep(&tile.key, encoding);
        }
        let waited_for = self.end(batch, Some(took));
        let run = self.trace((started, took), &waited_for, false);
        for (waiters, encoding) in waited_for.into_iter().zip(encodings) {
            for waiter in waiters {
                let waited = started.saturating_duration_since(waiter.queued);
                self.options.metrics.queued(waited);
                let _ = waiter.reply.send(Ok(Encoded {
                    encoding: Arc::clone(&encoding),
                    waited,
                    took,
                    run: run.clone(),
                }));
            }
        }
    }

    /// Each request that gets it logs it under its own id; it is logged here only when no request
    /// is left.
    fn fail(&self, batch: &mut Assembled, failure: Failure, ran: (Instant, Duration)) {
        let failure: Arc<dyn std::error::Error + Send + Sync> = failure.into();
        let waited_for = self.end(batch, None);
        self.trace(ran, &waited_for, true);
        let mut is_heard = false;
        for waiter in waited_for.into_iter().flatten() {
            is_heard |= waiter.reply.send(Err(BatchError::Failed(Arc::clone(&failure)))).is_ok();
        }
        if !is_heard {
            tracing::error!(error = %failure, tiles = batch.tiles.len(), "a batch failed");
        }
    }

    /// Ends the batch's flights, once, and hands out who waited.
    fn end(&self, batch: &mut Assembled, took: Option<Duration>) -> Vec<WaitedFor> {
        if std::mem::replace(&mut batch.ended, true) {
            Vec::new()
        } else {
            self.shared.finish(self.index, &batch.keys(), took)
        }
    }

    /// Where no other is to be had, the one that panicked goes on: it may well be whole.
    fn replace_encoder(&mut self) {
        match catch_unwind(AssertUnwindSafe(|| self.encoder.another())) {
            Ok(Ok(encoder)) => {
                self.encoder = encoder;
                tracing::warn!("an encoder panicked and is replaced");
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "an encoder panicked and cannot be replaced: it stays in \
                    use")
            }
            Err(_) => {
                tracing::error!("an encoder panicked, and replacing it panicked: it stays in use")
            }
        }
    }
}
