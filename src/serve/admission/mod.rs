//! Admission control: a permit by tiles and bytes, taken before any work is done.
//!
//! The permit goes with the work. Every job and every answer in flight holds a share of it, so what
//! a caller who left still occupies stays counted until it is freed. A rejected request gets a
//! Retry-After: the tiles in flight divided by the measured drain rate.
//!
//! It does not queue: a full server rejects at once, and the caller waits. So that a greedy caller
//! does not fill it for the others, each may hold at most seven times what it leaves free: alone
//! it comes to seven eighths, and two of them to seven fifteenths each. The first request of a
//! caller may take all that is free.

mod memory;
mod rate;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use memory::MemoryGuard;
pub use rate::{DrainRate, advised};

use super::caller::{Caller, CallerName};
use super::error::{Error, ErrorKind};
use super::metrics::Metrics;

/// How many times what is left free a caller may hold.
const SHARE: usize = 7;
/// When to come back where memory is short, whose drain is not measured.
const MEMORY_WAIT: Duration = Duration::from_secs(2);

/// How much may be in flight, and how much is.
pub struct Admission {
    max_tiles: usize,
    max_bytes: u64,
    /// None where nothing limits the process.
    memory: Option<MemoryGuard>,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    held: Amount,
    /// What each caller with something in flight holds of it.
    by_caller: HashMap<CallerName, Amount>,
    rate: DrainRate,
    /// When tiles last left, or the first arrived.
    since: Option<Instant>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    tiles: usize,
    bytes: u64,
}

impl Amount {
    fn add(&mut self, more: Self) {
        self.tiles += more.tiles;
        self.bytes += more.bytes;
    }

    fn take(&mut self, less: Self) {
        self.tiles -= less.tiles;
        self.bytes -= less.bytes;
    }
}

/// A share of the limits, released when the last clone of its `Arc` is dropped.
pub struct Permit {
    admission: Arc<Admission>,
    caller: Caller,
    tiles: usize,
    bytes: AtomicU64,
    /// What the permits before it hold, of the same request.
    before: u64,
}

impl Admission {
    pub fn new(max_tiles: usize, max_bytes: u64, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { max_tiles, max_bytes, memory: None, state: Mutex::default(), metrics })
    }

    /// As [`Admission::new`]; new work is refused as well while the process has nearly
    /// `memory_limit` bytes of memory.
    pub fn guarded(
        max_tiles: usize,
        max_bytes: u64,
        memory_limit: Option<u64>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let memory = memory_limit.map(MemoryGuard::new);
        Arc::new(Self { max_tiles, max_bytes, memory, state: Mutex::default(), metrics })
    }

    /// Admits `bytes` for a body that has yet to be read. Its tiles are not known, so it is
    /// rejected now when there is no room for one more tile, and not after the bytes have come.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub fn admit_body(self: &Arc<Self>, bytes: u64) -> Result<Arc<Permit>, Error> {
        self.body_if_free(bytes).map_err(|error| self.refuse(error))
    }

    /// As [`Admission::admit_body`], for a stream that waits and tries again: not counted as a
    /// rejection.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub fn body_if_free(self: &Arc<Self>, bytes: u64) -> Result<Arc<Permit>, Error> {
        self.lend(Caller::current(), Amount { tiles: 0, bytes }, 1, 0)
    }

    /// Admits the bytes of a list, which has a bound of its own: at most all that may be lent.
    ///
    /// # Errors
    /// `overloaded`, as [`Admission::admit`].
    pub fn admit_list(self: &Arc<Self>, bytes: u64) -> Result<Arc<Permit>, Error> {
        self.admit_body(bytes.min(self.max_bytes))
    }

    /// Admits `tiles` and `bytes`, both or neither.
    ///
    /// # Errors
    /// `request_too_large` when the share would never fit, `overloaded` with the time to wait when
    /// it does not fit now.
    pub fn admit(self: &Arc<Self>, tiles: usize, bytes: u64) -> Result<Arc<Permit>, Error> {
        let share = Amount { tiles, bytes };
        self.lend(Caller::current(), share, tiles, 0).map_err(|error| self.refuse(error))
    }

    /// Admits `share` when there is room for it and, in all, for `room` tiles. The same request
    /// holds `before` bytes already.
    fn lend(
        self: &Arc<Self>,
        caller: Caller,
        share: Amount,
        room: usize,
        before: u64,
    ) -> Result<Arc<Permit>, Error> {
        let Amount { tiles, bytes } = share;
        let whole = before.saturating_add(bytes);
        if tiles > self.max_tiles || whole > self.max_bytes {
            let needs = format!(
                "the request needs {tiles} tiles, the windows of large ones counted, and {whole} \
                bytes with its answer"
            );
            let lends = format!(
                "the server's limits are {} tiles and {} bytes: send fewer tiles or ask for fewer \
                variants",
                self.max_tiles, self.max_bytes
            );
            return Err(Error::new(ErrorKind::RequestTooLarge, format!("{needs}; {lends}")));
        }
        if let Some(most) = caller.most_tiles.filter(|most| tiles > *most) {
            let detail =
                format!("the request has {tiles} tiles, and the key may have {most} in flight");
            return Err(Error::new(ErrorKind::RequestTooLarge, detail));
        }
        // Work that was let in is let finish, which gives memory back.
        let guard = self.memory.as_ref().filter(|_| room > 0);
        if let Some((used, limit)) = guard.and_then(MemoryGuard::is_short) {
            let detail = format!("the server uses {used} of {limit} bytes of memory: retry later");
            return Err(Error::new(ErrorKind::Overloaded, detail).retry_after(MEMORY_WAIT));
        }
        if !memory::is_there(bytes) {
            let detail = format!(
                "the operating system does not give the server the {bytes} bytes of memory that \
                this takes: retry later"
            );
            return Err(Error::new(ErrorKind::Overloaded, detail).retry_after(MEMORY_WAIT));
        }
        let mut state = self.state.lock().expect("no code panics while it holds this lock");
        if let Err(in_use) = self.has_room(&state, &caller, (share, before), room) {
            let wait = advised(state.rate.time_for(state.held.tiles));
            drop(state);
            let detail = format!("{in_use}: retry in {} s", wait.as_secs());
            return Err(Error::new(ErrorKind::Overloaded, detail).retry_after(wait));
        }
        if state.held.tiles == 0 && tiles > 0 {
            state.since = Some(Instant::now());
        }
        state.held.add(share);
        if share != Amount::default() {
            state.by_caller.entry(caller.name.clone()).or_default().add(share);
        }
        self.metrics.inflight(state.held.tiles, state.held.bytes);
        let bytes = AtomicU64::new(bytes);
        Ok(Arc::new(Permit { admission: Arc::clone(self), caller, tiles, bytes, before }))
    }

    /// # Errors
    /// In a sentence, what is in use.
    fn has_room(
        &self,
        state: &State,
        caller: &Caller,
        (share, before): (Amount, u64),
        room: usize,
    ) -> Result<(), String> {
        let (held, own) = (state.held, state.by_caller.get(&caller.name));
        let own = own.copied().unwrap_or_default();
        if held.tiles + room > self.max_tiles || held.bytes + share.bytes > self.max_bytes {
            return Err(format!(
                "{} of {} tiles and {} of {} bytes are in use",
                held.tiles, self.max_tiles, held.bytes, self.max_bytes
            ));
        }
        if let Some(most) = caller.most_tiles.filter(|most| room > 0 && own.tiles + room > *most) {
            return Err(format!(
                "{} of the {most} tiles that the key may have are in use",
                own.tiles
            ));
        }
        // What was let in is let grow; only new work is held to a share.
        let free_tiles = self.max_tiles - held.tiles - room;
        let free_bytes = self.max_bytes - held.bytes - share.bytes;
        let has_tiles = own.tiles > 0 && free_tiles < (own.tiles + room) / SHARE;
        // The request's own body does not count against it.
        let has_bytes = own.bytes > before && free_bytes < (own.bytes + share.bytes) / SHARE as u64;
        if room > 0 && (has_tiles || has_bytes) && caller.name != CallerName::Server {
            return Err(format!(
                "you use {} of {} tiles and {} of {} bytes, and the rest is kept for other callers",
                own.tiles, self.max_tiles, own.bytes, self.max_bytes
            ));
        }
        Ok(())
    }

    /// Counts a rejection, here or by a queue further on.
    pub fn refuse(&self, error: Error) -> Error {
        self.metrics.rejected(error.kind);
        error
    }

    fn take_back(&self, caller: &CallerName, share: Amount) {
        let mut state = self.state.lock().expect("no code panics while it holds this lock");
        state.held.take(share);
        // A permit of nothing may outlive its caller's entry.
        if let Some(own) = state.by_caller.get_mut(caller) {
            own.take(share);
            if *own == Amount::default() {
                state.by_caller.remove(caller);
            }
        }
        if share.tiles > 0 {
            let now = Instant::now();
            let busy = state.since.replace(now).map_or(Duration::ZERO, |since| now - since);
            state.rate.record(share.tiles, busy);
        }
        self.metrics.inflight(state.held.tiles, state.held.bytes);
    }
}

/// Admits more for the request that was given these permits, one after the other.
///
/// # Errors
/// As [`Permit::admit`].
pub fn admit_more(permits: &[Arc<Permit>], bytes: u64) -> Result<Option<Arc<Permit>>, Error> {
    permits.last().map(|last| last.admit(0, bytes)).transpose()
}

impl Permit {
    /// Admits more of the same request, as a permit of its own. What the request as a whole may
    /// never have is too large; as a separate request it would be asked to retry.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub fn admit(&self, tiles: usize, bytes: u64) -> Result<Arc<Permit>, Error> {
        let before = self.before + self.bytes.load(Ordering::Relaxed);
        let lent = self.admission.lend(self.caller.clone(), Amount { tiles, bytes }, tiles, before);
        lent.map_err(|error| self.admission.refuse(error))
    }

    /// Adds `bytes` to the share.
    ///
    /// # Errors
    /// As [`Admission::admit`]; what was lent stays lent.
    pub fn grow(&self, bytes: u64) -> Result<(), Error> {
        let more = self.admit(0, bytes)?;
        self.bytes.fetch_add(more.bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (tiles, bytes) = (self.tiles, *self.bytes.get_mut());
        self.admission.take_back(&self.caller.name, Amount { tiles, bytes });
    }
}

#[cfg(test)]
mod tests;
