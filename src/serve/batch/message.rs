//! What passes between a caller and the worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::{Encoder, Encodings};
use crate::serve::admission::Permit;

/// One tile, on its way to the worker.
pub struct Job {
    pub tile: Arc<[u8]>,
    pub deadline: Instant,
    pub queued: Instant,
    /// Held, never read: the tile counts as in the house until it is encoded or skipped.
    pub permit: Arc<Permit>,
    pub reply: oneshot::Sender<Result<Encoded, BatchError>>,
}

/// One tile's latents, each `[N, h] f32`, row-major.
#[derive(Debug)]
pub struct TileEncoding {
    pub anatomy: Vec<f32>,
    pub characteristics: Vec<f32>,
}

/// The answer to one job.
#[derive(Debug)]
pub struct Encoded {
    pub encoding: Arc<TileEncoding>,
    pub waited: Duration,
    pub took: Duration,
}

/// Why a tile was not encoded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BatchError {
    #[error("the queue of the encoder is full")]
    Full,
    #[error("the encoder's thread has ended")]
    Closed,
    #[error("the deadline passed before the tile's turn came")]
    Late,
    #[error("the batch failed: {0}")]
    Failed(Arc<dyn std::error::Error + Send + Sync>),
}

/// What the worker asks of an encoder: one method, so that tests can put something slow or broken in its place.
pub trait Encode: Send {
    /// `tiles` `[batch, H, W, 3] u8`.
    ///
    /// # Errors
    /// When the batch could not be encoded; the next one may be.
    fn encode(&mut self, tiles: &[u8], batch: usize) -> Result<Encodings, Box<dyn std::error::Error + Send + Sync>>;
}

impl Encode for Encoder {
    fn encode(&mut self, tiles: &[u8], batch: usize) -> Result<Encodings, Box<dyn std::error::Error + Send + Sync>> {
        Self::encode(self, tiles, batch).map_err(Into::into)
    }
}
