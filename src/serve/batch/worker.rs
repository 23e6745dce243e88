//! The thread that owns one encoder.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::message::{BatchError, Encode, Encoded, Job, TileEncoding};
use crate::engine::Encodings;
use crate::method::Geometry;
use crate::serve::admission::Admission;
use crate::serve::metrics::Metrics;

type Failure = Box<dyn std::error::Error + Send + Sync>;

pub struct WorkerOptions {
    pub max_batch: usize,
    pub geometry: Geometry,
    pub admission: Arc<Admission>,
    pub metrics: Arc<Metrics>,
}

pub struct Worker {
    options: WorkerOptions,
    encoder: Box<dyn Encode>,
    /// `[bucket, H, W, 3]` of the batch in work; kept, so that a batch allocates no input.
    input: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("the encoder panicked")]
struct Panicked;

/// The size that a batch is padded to: a power of two, or `max_batch`. Few sizes, each run once before the server is
/// ready, so that no caller pays for a shape that the engine has not seen.
pub fn bucket(tiles: usize, max_batch: usize) -> usize {
    tiles.next_power_of_two().min(max_batch)
}

/// Runs every bucket once on grey tiles, and tells how long the largest took: a first, cautious measure of the rate.
///
/// # Errors
/// When the encoder refuses one.
pub fn warm(encoder: &mut dyn Encode, geometry: &Geometry, max_batch: usize) -> Result<Duration, Failure> {
    let mut size = 1;
    loop {
        let size_now = bucket(size, max_batch);
        let started = Instant::now();
        encoder.encode(&vec![128; size_now * geometry.tile_bytes()], size_now)?;
        if size_now == max_batch {
            return Ok(started.elapsed());
        }
        size *= 2;
    }
}

impl Worker {
    pub fn new(options: WorkerOptions, encoder: Box<dyn Encode>) -> Self {
        let input = Vec::with_capacity(options.max_batch * options.geometry.tile_bytes());
        Self { options, encoder, input }
    }

    /// Works until every handle is gone and all that they sent is done.
    pub fn run(mut self, mut requests: mpsc::Receiver<Vec<Job>>) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match requests.blocking_recv() {
                    Some(request) => waiting.extend(request),
                    None => return,
                }
            }
            while waiting.len() < self.options.max_batch
                && let Ok(request) = requests.try_recv()
            {
                waiting.extend(request);
            }
            let batch = self.collect(&mut waiting);
            if !batch.is_empty() {
                self.serve(batch);
            }
        }
    }

    /// The tiles that have waited longest, up to `max_batch`, without those of callers who left.
    fn collect(&self, waiting: &mut VecDeque<Job>) -> Vec<Job> {
        let now = Instant::now();
        let mut batch = Vec::with_capacity(self.options.max_batch);
        while batch.len() < self.options.max_batch
            && let Some(job) = waiting.pop_front()
        {
            if !job.reply.is_closed() && job.deadline > now {
                batch.push(job);
            }
        }
        batch
    }

    fn serve(&mut self, batch: Vec<Job>) {
        let started = Instant::now();
        for job in &batch {
            self.options.metrics.queued(started - job.queued);
        }
        let result = self.encode(&batch);
        let took = started.elapsed();
        self.options.metrics.encoded(batch.len(), took);
        match result {
            Ok(encodings) => {
                self.options.admission.rate().record(batch.len(), took);
                answer(batch, &encodings, &Timing { started, took });
            }
            Err(failure) => {
                let failure: Arc<dyn std::error::Error + Send + Sync> = failure.into();
                tracing::error!(error = %failure, tiles = batch.len(), "a batch failed");
                for job in batch {
                    // Who left meanwhile does not hear of it.
                    let _ = job.reply.send(Err(BatchError::Failed(Arc::clone(&failure))));
                }
            }
        }
    }

    fn encode(&mut self, batch: &[Job]) -> Result<Encodings, Failure> {
        let size = bucket(batch.len(), self.options.max_batch);
        self.input.clear();
        for job in batch {
            self.input.extend_from_slice(&job.tile);
        }
        self.input.resize(size * self.options.geometry.tile_bytes(), 0);
        // The session keeps no state between runs, so one that panicked can be asked again.
        catch_unwind(AssertUnwindSafe(|| self.encoder.encode(&self.input, size))).unwrap_or_else(|_| Err(Panicked.into()))
    }
}

struct Timing {
    started: Instant,
    took: Duration,
}

fn answer(batch: Vec<Job>, encodings: &Encodings, timing: &Timing) {
    let latent = encodings.anatomy.len() / encodings.batch;
    for (index, job) in batch.into_iter().enumerate() {
        let of = |values: &[f32]| values[index * latent..][..latent].to_vec();
        let encoding = Arc::new(TileEncoding { anatomy: of(&encodings.anatomy), characteristics: of(&encodings.characteristics) });
        let waited = timing.started - job.queued;
        let _ = job.reply.send(Ok(Encoded { encoding, waited, took: timing.took }));
    }
}
