//! Dynamic batching: many callers, one queue for each bundle, one worker for each device.
//!
//! A batch is what arrived while the last one ran, up to `max_batch`: no tile waits for a batch to
//! fill unless `max_delay` is set, and under load batches fill by themselves. A full batch is taken
//! ahead and assembled while the one before it runs. One tile is encoded once, however many ask for
//! it at the same time. A caller who left (its reply channel closed, its deadline past) is skipped
//! before anything is encoded for it. One failure of a batch is one error, shared by all who were
//! in it, and the worker goes on; one that panicked goes on with another encoder.
//!
//! handle ([`Batch`]) → `shared` (lock and condition variable) around `queue` (the scheduling) →
//! `worker` (the threads). Nothing here knows HTTP, styles or pictures.

mod buckets;
mod encoding;
mod message;
mod queue;
mod shared;
mod tally;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use buckets::Buckets;
pub use encoding::{Carried, TileEncoding, Whole, Window, at_canvas};
pub use message::{BatchError, Encode, Encoded, Failure, Priority, Shelf, WantedTile};
use shared::{Place, Shared};
pub use tally::Tally;
pub use worker::{WorkerOptions, warm};

use super::admission::Permit;
use super::trace;

/// How tiles wait.
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions {
    pub max_batch: usize,
    /// How long a tile may wait for others to share its batch.
    pub max_delay: Duration,
    /// The longest wait for a turn that is worth it; past it a request is refused rather than
    /// queued.
    pub max_wait: Duration,
    /// Workers that share the load.
    pub workers: usize,
    /// Whether one more worker, the last, takes only a tile that comes while nothing is in work.
    pub has_lone: bool,
}

/// Sends tiles to the workers of one bundle. Cheap to clone; the workers end when the last clone is
/// dropped.
#[derive(Clone)]
pub struct Batch(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    shelf: Arc<dyn Shelf>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Tiles that are wanted, and until when.
pub struct EncodeRequest {
    pub tiles: Vec<WantedTile>,
    pub deadline: Instant,
    pub priority: Priority,
    pub permit: Arc<Permit>,
}

/// The encodings of one request, in its order, and what they waited for.
pub struct EncodeAnswer {
    pub encodings: Vec<Arc<TileEncoding>>,
    /// The longest wait of one of its tiles.
    pub queue: Duration,
    /// The longest encoding of one of its tiles.
    pub encode: Duration,
}

impl Batch {
    /// Starts one worker for each encoder. `warmed` is what the largest batch took on one of them.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        options: &QueueOptions,
        worker: &WorkerOptions,
        encoders: Vec<Box<dyn Encode>>,
        warmed: Duration,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        debug_assert_eq!(options.workers + usize::from(options.has_lone), encoders.len());
        let shared = Arc::new(Shared::new(options));
        shared.expect_rate(options.max_batch, warmed);
        // Made first, so that threads which did start end again when a later one does not.
        let batch = Self(Arc::new(Handle {
            shared: Arc::clone(&shared),
            shelf: Arc::clone(&worker.shelf),
        }));
        let mut threads = Vec::new();
        for (index, encoder) in encoders.into_iter().enumerate() {
            threads.extend(worker::start(Arc::clone(&shared), index, encoder, worker)?);
        }
        Ok((batch, threads))
    }

    /// Batches that were encoded, by their tiles, and how long the encoder took over them.
    pub fn batches(&self) -> BTreeMap<usize, Tally> {
        self.0.shared.batches()
    }

    /// Encodes tiles. Dropping the future cancels what is not yet encoded, unless another request
    /// waits for it.
    ///
    /// # Errors
    /// When the queue is too long, the batch failed, the deadline passed, or the worker is gone.
    pub async fn encode(&self, request: EncodeRequest) -> Result<EncodeAnswer, BatchError> {
        let (deadline, asked) = (request.deadline, Instant::now());
        let places = self.0.shared.submit(request, &*self.0.shelf)?;
        let mut answer = EncodeAnswer {
            encodings: Vec::with_capacity(places.len()),
            queue: Duration::ZERO,
            encode: Duration::ZERO,
        };
        let (mut first, mut runs) = (None, Vec::new());
        for place in places {
            let reply = match place {
                Place::Here(encoding) => {
                    answer.encodings.push(encoding);
                    continue;
                }
                Place::Coming(reply) => reply,
            };
            // A reply dropped without an answer: the worker saw the deadline pass, or is gone.
            let encoded = match reply.await {
                Ok(encoded) => encoded?,
                Err(_) if Instant::now() >= deadline => return Err(BatchError::Late),
                Err(_) => return Err(BatchError::Closed),
            };
            first = Some(first.map_or(encoded.waited, |first: Duration| first.min(encoded.waited)));
            runs.extend(encoded.run);
            answer.queue = answer.queue.max(encoded.waited);
            answer.encode = answer.encode.max(encoded.took);
            answer.encodings.push(encoded.encoding);
        }
        if let Some(first) = first {
            trace::waited(asked, first);
            trace::done_in(runs);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
