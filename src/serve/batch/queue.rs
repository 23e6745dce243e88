//! The scheduling of one bundle's encoders: a state machine without a clock, a thread or a lock of
//! its own. Time is an argument, so that every rule below can be tested.
//!
//! - A tile is in here once, however many wait for it (a *flight*), from the first who asks until
//!   its answer.
//! - An idle worker takes what there is (after `max_delay`, when there is less than a full batch).
//!   A busy one is given a further batch only when that is full: what is not full stays open to who
//!   comes while the last batch runs.
//! - Tiles of one priority are taken by turns of callers, one tile each: who sends many waits for
//!   itself.
//! - A tile whose callers have all left is dropped when its turn comes. One whose turn comes later
//!   than it may is refused: by then the estimate that let it in was wrong.
//! - Where there is a lone worker, faster with one tile than the others and in their way otherwise,
//!   it takes a tile that waits alone while nothing is in work, and the others take everything
//!   else: each an equal share of what waits, and none of them ahead while another is idle.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::message::{BatchError, Priority, WaitedFor, Waiter, WantedTile};
use crate::serve::caller::CallerName;
use crate::serve::runtime::rounds::Rounds;
use restain_bundle::codec::TileKey;

/// While both lines wait, so many interactive tiles are taken for one of bulk.
const INTERACTIVE_SHARE: usize = 3;
/// One batch in work, one assembled ahead.
const MOST_OUTSTANDING: usize = 2;

/// One line for each priority.
const LINES: [Priority; 2] = [Priority::Interactive, Priority::Bulk];

pub(super) struct Queue {
    max_batch: usize,
    max_delay: Duration,
    flights: HashMap<TileKey, Flight>,
    /// Keys in the order of their turns, by [`Priority`]; a tile that several callers wait for is
    /// in the lane of each. A key may be stale: its flight gone, taken, or in the other line.
    lines: [Rounds<TileKey>; 2],
    /// Flights that no worker has taken yet, by line and by the caller who came first.
    waiting: [HashMap<CallerName, usize>; 2],
    /// Interactive tiles since bulk last had its turn.
    since_bulk: usize,
    /// For each worker, the batches that it was given and has not finished.
    outstanding: Vec<usize>,
    /// Whether the last worker is a lone one.
    has_lone: bool,
    closed: bool,
}

/// A tile on its way, and everyone who waits for it.
struct Flight {
    tile: WantedTile,
    /// Who came first.
    caller: CallerName,
    line: usize,
    queued: Instant,
    taken: bool,
    waiters: Vec<Waiter>,
}

/// What a worker is to do.
#[derive(Debug, PartialEq)]
pub(super) enum Next<T> {
    /// Encode these, at least one, in the order of their turn.
    Take(T),
    /// Ask again when something changes, or at this time.
    Wait(Option<Instant>),
    /// Nothing will come any more.
    End,
}

impl Queue {
    pub(super) fn new(max_batch: usize, max_delay: Duration, workers: usize) -> Self {
        Self {
            max_batch,
            max_delay,
            flights: HashMap::new(),
            lines: Default::default(),
            waiting: Default::default(),
            since_bulk: 0,
            outstanding: vec![0; workers],
            has_lone: false,
            closed: false,
        }
    }

    /// Adds a lone worker behind the others.
    pub(super) fn add_lone(&mut self) {
        self.outstanding.push(0);
        self.has_lone = true;
    }

    /// No more will come; what is in here is still done.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Tiles that stand before one that a caller brings now.
    pub(super) fn ahead_of(&self, priority: Priority, caller: &CallerName) -> usize {
        let [interactive, bulk] = [0, 1].map(|line| self.ahead_in(line, caller));
        match priority {
            Priority::Interactive => interactive + bulk.min(interactive / INTERACTIVE_SHARE),
            Priority::Bulk => self.waiting_in(Priority::Interactive as usize) + bulk,
        }
    }

    /// Tiles of a line that are taken before one that a caller brings now: its own, and as many of
    /// every other caller.
    fn ahead_in(&self, line: usize, caller: &CallerName) -> usize {
        let own = self.waiting[line].get(caller).copied().unwrap_or_default();
        let others = self.waiting[line].iter().filter(|(name, _)| *name != caller);
        own + others.map(|(_, &waiting)| waiting.min(own + 1)).sum::<usize>()
    }

    fn waiting_in(&self, line: usize) -> usize {
        self.waiting[line].values().sum()
    }

    /// Tiles in work or assembled for it.
    #[cfg(test)]
    pub(super) fn under_way(&self) -> usize {
        self.flights.len() - self.waiting_in(0) - self.waiting_in(1)
    }

    /// Joins the tile's flight, if there is one.
    ///
    /// # Errors
    /// The waiter back, when there is none.
    pub(super) fn join(
        &mut self,
        key: &TileKey,
        priority: Priority,
        waiter: Waiter,
    ) -> Result<(), Waiter> {
        let Some(flight) = self.flights.get_mut(key) else { return Err(waiter) };
        let (line, caller) = (priority as usize, waiter.caller.clone());
        let is_new = flight.waiters.iter().all(|waiter| waiter.caller != caller);
        flight.waiters.push(waiter);
        if flight.taken {
            return Ok(());
        }
        if line < flight.line {
            let first = flight.caller.clone();
            leave(&mut self.waiting[flight.line], &first);
            *self.waiting[line].entry(first).or_default() += 1;
            flight.line = line;
            self.lines[line].push(&caller, *key);
        } else if is_new {
            self.lines[flight.line].push(&caller, *key);
        }
        Ok(())
    }

    /// A new flight.
    pub(super) fn push(&mut self, tile: WantedTile, priority: Priority, waiter: Waiter) {
        let (key, line, queued) = (tile.key, priority as usize, waiter.queued);
        let caller = waiter.caller.clone();
        self.lines[line].push(&caller, key);
        *self.waiting[line].entry(caller.clone()).or_default() += 1;
        let flight = Flight { tile, caller, line, queued, taken: false, waiters: vec![waiter] };
        let before = self.flights.insert(key, flight);
        debug_assert!(before.is_none(), "who finds a flight joins it");
    }

    /// What `worker` is to do at `now`.
    pub(super) fn next(&mut self, worker: usize, now: Instant) -> Next<Vec<WantedTile>> {
        let waiting = self.waiting_in(0) + self.waiting_in(1);
        let full = waiting >= self.max_batch;
        let mut most = self.max_batch;
        if self.has_lone {
            let sharing = &self.outstanding[..self.outstanding.len() - 1];
            let idle = sharing.iter().filter(|&&outstanding| outstanding == 0).count();
            let is_lone = worker == sharing.len();
            let is_quiet = self.outstanding.iter().all(|&outstanding| outstanding == 0);
            if waiting > 0 && is_lone != (is_quiet && waiting == 1) {
                return Next::Wait(None);
            }
            if self.outstanding[worker] > 0 && idle > 0 && waiting > 0 {
                return Next::Wait(None);
            }
            most = most.min(waiting.div_ceil(idle.max(1))).max(1);
        }
        match self.outstanding[worker] {
            0 if full || self.closed => {}
            0 => {
                let delays = !self.max_delay.is_zero();
                let oldest = delays.then(|| self.oldest()).flatten();
                if let Some(due) =
                    oldest.map(|queued| queued + self.max_delay).filter(|due| *due > now)
                {
                    return Next::Wait(Some(due));
                }
            }
            outstanding if outstanding < MOST_OUTSTANDING && full => {}
            _ if self.closed && waiting == 0 => return Next::End,
            _ => return Next::Wait(None),
        }
        let mut batch = Vec::new();
        while batch.len() < most
            && let Some(tile) = self.take(now)
        {
            batch.push(tile);
        }
        match batch.is_empty() {
            false => {
                self.outstanding[worker] += 1;
                Next::Take(batch)
            }
            true if self.closed => Next::End,
            true => Next::Wait(None),
        }
    }

    /// Returns those of the taken tiles that a caller still waits for, and drops the others.
    pub(super) fn still_wanted(&mut self, keys: &[TileKey], now: Instant) -> Vec<bool> {
        let mut wanted = |key: &TileKey| {
            let flight = self.flights.get_mut(key);
            let waits =
                flight.is_some_and(|flight| flight.waiters.iter().any(|waiter| waiter.waits(now)));
            if !waits {
                self.flights.remove(key);
            }
            waits
        };
        keys.iter().map(&mut wanted).collect()
    }

    /// Ends a batch of `worker`, and hands out who waited, tile by tile.
    pub(super) fn finish(&mut self, worker: usize, keys: &[TileKey]) -> Vec<WaitedFor> {
        self.outstanding[worker] -= 1;
        keys.iter()
            .filter_map(|key| self.flights.remove(key))
            .map(|flight| flight.waiters)
            .collect()
    }

    /// When the tile that has waited longest came.
    fn oldest(&self) -> Option<Instant> {
        let flights = self.flights.values().filter(|flight| !flight.taken);
        flights.map(|flight| flight.queued).min()
    }

    /// Whether a tile waits in a line; takes stale keys away from its front.
    fn has_turn(&mut self, line: usize) -> bool {
        while let Some(key) = self.lines[line].front() {
            match self.flights.get(key) {
                Some(flight) if !flight.taken && flight.line == line => return true,
                _ => self.lines[line].discard(),
            };
        }
        false
    }

    /// The tile whose turn it is.
    fn take(&mut self, now: Instant) -> Option<WantedTile> {
        loop {
            let line = self.turn()?;
            let key = *self.lines[line].front()?;
            let flight = self.flights.get_mut(&key)?;
            leave(&mut self.waiting[line], &flight.caller);
            flight.waiters.retain(|waiter| waiter.waits(now));
            for waiter in flight.waiters.extract_if(.., |waiter| waiter.turn_by <= now) {
                let wait = now - waiter.queued;
                let _ = waiter.reply.send(Err(BatchError::Overloaded { wait }));
            }
            if flight.waiters.is_empty() {
                self.flights.remove(&key);
                self.lines[line].discard();
                continue;
            }
            flight.taken = true;
            self.lines[line].take();
            self.since_bulk = if line == Priority::Bulk as usize { 0 } else { self.since_bulk + 1 };
            return Some(flight.tile.clone());
        }
    }

    /// Whose turn it is: a line with a tile at its front.
    fn turn(&mut self) -> Option<usize> {
        let waits = LINES.map(|line| self.has_turn(line as usize));
        let [interactive, bulk] = LINES.map(|line| line as usize);
        match waits {
            [true, true] if self.since_bulk >= INTERACTIVE_SHARE => Some(bulk),
            [true, _] => Some(interactive),
            [false, true] => Some(bulk),
            [false, false] => None,
        }
    }
}

/// Counts a tile less for a caller.
fn leave(waiting: &mut HashMap<CallerName, usize>, caller: &CallerName) {
    let count = waiting.get_mut(caller).expect("it was counted when it came");
    *count -= 1;
    if *count == 0 {
        waiting.remove(caller);
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
