//! Tiles in, encodings out, many callers to one encoder.
//!
//! One OS thread owns the encoder, so nothing is locked. A batch is what arrived while the last one ran, up to
//! `max_batch`: nobody waits for a batch to fill, and under load batches fill by themselves. A caller who left (its
//! reply channel closed, its deadline past) is skipped before anything is encoded for it. One failure of a batch is
//! one error, shared by all who were in it, and the worker goes on.
//!
//! handle ([`Batch`]) → message (`message::Job`) → worker. Nothing here knows HTTP, styles or pictures.

mod message;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use message::Job;
pub use message::{BatchError, Encode, Encoded, TileEncoding};
pub use worker::{Worker, WorkerOptions, bucket, warm};

use super::admission::Permit;

/// Sends tiles to one worker. Cheap to clone; the worker ends when the last clone is dropped.
#[derive(Clone)]
pub struct Batch {
    /// One message a request, so that its tiles reach the worker together.
    requests: mpsc::Sender<Vec<Job>>,
}

/// Tiles that are wanted, and until when.
pub struct EncodeRequest {
    /// Raw tiles `[H, W, 3]`, each of the model's size.
    pub tiles: Vec<Arc<[u8]>>,
    pub deadline: Instant,
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
    /// The handle, and the channel's other end for its [`Worker`]. `capacity` is the tiles that admission lends, so that
    /// an admitted request, of one tile or more, always finds a place.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Vec<Job>>) {
        let (requests, receiver) = mpsc::channel(capacity);
        (Self { requests }, receiver)
    }

    /// Dropping the future is leaving: what is not yet encoded will not be.
    ///
    /// # Errors
    /// When the batch failed, the deadline passed, or the worker is gone.
    pub async fn encode(&self, request: EncodeRequest) -> Result<EncodeAnswer, BatchError> {
        let queued = Instant::now();
        let (jobs, replies): (Vec<Job>, Vec<_>) = request
            .tiles
            .into_iter()
            .map(|tile| {
                let (reply, answer) = oneshot::channel();
                (Job { tile, deadline: request.deadline, queued, permit: Arc::clone(&request.permit), reply }, answer)
            })
            .unzip();
        self.requests.try_send(jobs).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => BatchError::Full,
            mpsc::error::TrySendError::Closed(_) => BatchError::Closed,
        })?;
        let mut answer = EncodeAnswer { encodings: Vec::with_capacity(replies.len()), queue: Duration::ZERO, encode: Duration::ZERO };
        for reply in replies {
            // A reply dropped without a word: the worker saw the deadline pass, or is gone.
            let encoded = match reply.await {
                Ok(encoded) => encoded?,
                Err(_) if Instant::now() >= request.deadline => return Err(BatchError::Late),
                Err(_) => return Err(BatchError::Closed),
            };
            answer.queue = answer.queue.max(encoded.waited);
            answer.encode = answer.encode.max(encoded.took);
            answer.encodings.push(encoded.encoding);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
