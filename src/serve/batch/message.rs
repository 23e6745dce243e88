//! What passes between a caller, the queue and a worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use half::f16;
use tokio::sync::oneshot;

use super::encoding::{TileEncoding, Whole};
use crate::serve::admission::Permit;
use crate::serve::caller::CallerName;
use crate::serve::trace::{Asker, RunSpan};
use restain_bundle::codec::TileKey;

pub use restain_request::Priority;

/// One tile to encode.
#[derive(Clone, Debug)]
pub struct WantedTile {
    pub key: TileKey,
    /// Width and height of the tile as it came.
    pub size: (u32, u32),
    /// What the model is to see: the tile at the model's size, or a window of it, `[H, W, 3] u8`.
    pub seen: Bytes,
    pub whole: Whole,
}

/// Where encodings are kept. The queue asks it right before a tile would be encoded, and a worker
/// fills it before it answers, so that of two requests for one tile the second always finds either
/// the work under way or its result.
pub trait Shelf: Send + Sync {
    /// What is at hand, without waiting.
    fn peek(&self, key: &TileKey) -> Option<Arc<TileEncoding>>;
    fn keep(&self, key: &TileKey, encoding: &Arc<TileEncoding>);
    /// Gives up what is no longer needed.
    fn forget(&self, key: &TileKey);
}

/// Everyone who waited for one tile.
pub(super) type WaitedFor = Vec<Waiter>;

/// One request's wait for a tile.
pub(super) struct Waiter {
    pub caller: CallerName,
    pub deadline: Instant,
    pub queued: Instant,
    /// When its turn must have come: the longest wait after it was queued, and the time that the
    /// tiles before it in its own request take.
    pub turn_by: Instant,
    /// Held, never read: the tile counts as admitted until it is encoded or skipped.
    pub _permit: Arc<Permit>,
    /// None when it is not traced.
    pub asker: Option<Asker>,
    pub reply: oneshot::Sender<Result<Encoded, BatchError>>,
}

impl Waiter {
    /// Whether an answer would still be of use.
    pub(super) fn waits(&self, now: Instant) -> bool {
        !self.reply.is_closed() && self.deadline > now
    }
}

/// The answer to one waiter.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub encoding: Arc<TileEncoding>,
    pub waited: Duration,
    pub took: Duration,
    /// The run that encoded it, when that is traced.
    pub run: Option<RunSpan>,
}

/// Why a tile was not encoded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BatchError {
    #[error("the encoder has work for {} s already", .wait.as_secs())]
    Overloaded { wait: Duration },
    #[error("the encoder's thread has ended")]
    Closed,
    #[error("the deadline passed before the tile's turn came")]
    Late,
    #[error("the batch failed: {0}")]
    Failed(Arc<dyn std::error::Error + Send + Sync>),
}

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a worker asks of an encoder: one method, so that tests can put something slow or broken in
/// its place.
pub trait Encode: Send {
    /// `tiles` `[batch, H, W, 3] u8`, of which the first `wanted` are tiles and the rest padding.
    /// For each wanted one anatomy `[N, h]`, then characteristics `[N, S]`.
    ///
    /// # Errors
    /// When the batch could not be encoded; the next one may be.
    fn encode(
        &mut self,
        tiles: &[u8],
        batch: usize,
        wanted: usize,
    ) -> Result<Vec<Vec<f16>>, Failure>;

    /// Opens another one like it, to replace it after a panic, which leaves its state unknown.
    ///
    /// # Errors
    /// When there is none to be had.
    fn another(&self) -> Result<Box<dyn Encode>, Failure>;
}
