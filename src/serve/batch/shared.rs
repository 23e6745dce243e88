//! The queue behind a lock, with a condition variable for its changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::message::{BatchError, Encoded, Shelf, WaitedFor, Waiter, WantedTile};
use super::queue::{Next, Queue};
use super::tally::Tally;
use super::{EncodeRequest, QueueOptions};
use crate::serve::admission::DrainRate;
use crate::serve::caller::Caller;
use crate::serve::trace::Asker;
use restain_bundle::codec::TileKey;
use tokio::sync::oneshot;

/// Longer than it takes a thread to wake on a busy machine.
const WAKING: Duration = Duration::from_millis(100);

pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    workers: usize,
    max_batch: usize,
    max_wait: Duration,
}

struct State {
    queue: Queue,
    /// Of one worker.
    rate: DrainRate,
    /// By the tiles of the batch.
    batches: BTreeMap<usize, Tally>,
}

/// Where the answer for one tile will come.
pub(super) enum Place {
    Here(Arc<super::TileEncoding>),
    Coming(oneshot::Receiver<Result<Encoded, BatchError>>),
}

impl Shared {
    pub(super) fn new(options: &QueueOptions) -> Self {
        let mut queue = Queue::new(options.max_batch, options.max_delay, options.workers);
        if options.has_lone {
            queue.add_lone();
        }
        let state =
            Mutex::new(State { queue, rate: DrainRate::default(), batches: BTreeMap::new() });
        Self {
            state,
            changed: Condvar::new(),
            workers: options.workers,
            max_batch: options.max_batch,
            max_wait: options.max_wait,
        }
    }

    /// Takes a whole request or nothing of it: what is on the shelf, what is under way already, and
    /// flights for the rest.
    ///
    /// # Errors
    /// `Overloaded` when what stands before it would outlast the deadline, or the longest wait that
    /// is worth it.
    pub(super) fn submit(
        &self,
        request: EncodeRequest,
        shelf: &dyn Shelf,
    ) -> Result<Vec<Place>, BatchError> {
        let queued = Instant::now();
        let EncodeRequest { tiles, deadline, priority, permit } = request;
        let (asker, caller) = (Asker::now(), Caller::current());
        let (priority, caller) = (caller.allowed(priority), caller.name);
        let mut state = self.lock();
        let ahead = state.queue.ahead_of(priority, &caller);
        self.check_wait(&state, ahead, deadline.saturating_duration_since(queued))?;
        // As long as two batches before it and its own request's tiles may take, if they take twice
        // as long as the last ones did.
        let each = 2 * state.rate.time_for(1) / self.workers as u32;
        let least = WAKING + 4 * state.rate.time_for(self.max_batch);
        let mut place = |(before, tile): (usize, WantedTile)| {
            let (reply, answer) = oneshot::channel();
            let waiter = Waiter {
                caller: caller.clone(),
                deadline,
                queued,
                turn_by: queued + self.max_wait + least + each * before as u32,
                _permit: Arc::clone(&permit),
                asker: asker.clone(),
                reply,
            };
            match state.queue.join(&tile.key, priority, waiter) {
                Ok(()) => Place::Coming(answer),
                Err(waiter) => match shelf.peek(&tile.key) {
                    // In one window, as it is wanted: the tile may be held in several.
                    Some(encoding) if encoding.windows.is_whole() => Place::Here(encoding),
                    _ => {
                        state.queue.push(tile, priority, waiter);
                        Place::Coming(answer)
                    }
                },
            }
        };
        let places = tiles.into_iter().enumerate().map(&mut place).collect();
        drop(state);
        self.changed.notify_all();
        Ok(places)
    }

    fn check_wait(&self, state: &State, ahead: usize, left: Duration) -> Result<(), BatchError> {
        let wait = state.rate.time_for(ahead) / self.workers as u32;
        if ahead > 0 && wait > left.min(self.max_wait) {
            Err(BatchError::Overloaded { wait })
        } else {
            Ok(())
        }
    }

    /// Blocks until there is a batch for `worker`; nothing when there will be none any more.
    pub(super) fn next(&self, worker: usize) -> Option<Vec<WantedTile>> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            state = match state.queue.next(worker, now) {
                Next::Take(batch) => {
                    drop(state);
                    // What one takes decides what the others may.
                    self.changed.notify_all();
                    return Some(batch);
                }
                Next::End => return None,
                Next::Wait(None) => {
                    self.changed.wait(state).expect("no code panics while it holds this lock")
                }
                Next::Wait(Some(until)) => {
                    let waited = self.changed.wait_timeout(state, until - now);
                    waited.expect("no code panics while it holds this lock").0
                }
            };
        }
    }

    pub(super) fn still_wanted(&self, keys: &[TileKey]) -> Vec<bool> {
        self.lock().queue.still_wanted(keys, Instant::now())
    }

    /// Ends a batch, notes how fast it was, and hands out who waited.
    pub(super) fn finish(
        &self,
        worker: usize,
        keys: &[TileKey],
        took: Option<Duration>,
    ) -> Vec<WaitedFor> {
        let mut state = self.lock();
        if let Some(took) = took {
            state.rate.record(keys.len(), took);
            state.batches.entry(keys.len()).or_default().add(took);
        }
        let waited_for = state.queue.finish(worker, keys);
        drop(state);
        self.changed.notify_all();
        waited_for
    }

    pub(super) fn batches(&self) -> BTreeMap<usize, Tally> {
        self.lock().batches.clone()
    }

    /// A first measure of the rate, from warming up.
    pub(super) fn expect_rate(&self, tiles: usize, took: Duration) {
        self.lock().rate.record(tiles, took);
    }

    /// Tiles in work or assembled for it.
    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.lock().queue.under_way()
    }

    pub(super) fn close(&self) {
        self.lock().queue.close();
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}
