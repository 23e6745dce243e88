//! Counters of a run.
//!
//! There are two views of the requests, and no figure mixes them. Requests that *begin* in the
//! measured window are waited for, however long they take: latencies, errors and timings are
//! theirs, so that slow requests at the end count. Throughput is of the work *within* the window: a
//! request of which half lies in the window counts half. So neither edge of the window biases it,
//! and a window of a few long requests is measured as precisely as one of many short ones.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::exchange::{Done, Failure, Outcome, ServerTiming};

/// The measured window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub start: Instant,
    /// `None` when a number of requests ends it.
    pub end: Option<Instant>,
}

impl Window {
    /// Returns whether `at` lies in the window.
    pub(crate) fn holds(&self, at: Instant) -> bool {
        at >= self.start && self.end.is_none_or(|end| at < end)
    }

    /// Returns the part of a span that lies within, 0 to 1.
    fn share(&self, from: Instant, to: Instant) -> f64 {
        let length = to.saturating_duration_since(from);
        if length.is_zero() {
            return f64::from(u8::from(self.holds(to)));
        }
        let (first, last) = (from.max(self.start), self.end.map_or(to, |end| to.min(end)));
        last.saturating_duration_since(first).as_secs_f64() / length.as_secs_f64()
    }
}

/// The intended and the actual times of a request.
pub(crate) struct Landed {
    /// The intended beginning; the actual one is later when the generator is late.
    pub intended: Instant,
    pub began: Instant,
    pub outcome: Outcome,
}

pub(crate) struct Tally {
    pub window: Window,
    /// The timeout: a later response does not count as goodput.
    in_time: Duration,
    pub begun: Begun,
    pub within: Within,
    pub seconds: Vec<Second>,
    /// The end of the last response.
    pub last: Instant,
}

/// Counters of the requests that begin in the window.
#[derive(Default)]
pub(crate) struct Begun {
    pub ok: u64,
    pub in_time: u64,
    pub errors: BTreeMap<String, Errors>,
    /// Microseconds from the intended beginning to the end of the response, of 2xx responses.
    pub latencies: Vec<u32>,
    /// Microseconds from the intended to the actual beginning, of all requests that were sent.
    pub lateness: Vec<u32>,
    pub timings: u64,
    pub timing_sum: ServerTiming,
}

/// Errors of one kind.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Errors {
    pub count: u64,
    /// The message of the first.
    pub first: String,
}

/// Sums over all requests, weighted by the part of each that lies in the window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Within {
    pub ok: f64,
    pub in_time: f64,
    pub errored: f64,
    pub tiles: f64,
    pub variants: f64,
    pub bytes_out: f64,
    pub bytes_in: f64,
}

/// Counters of the requests that ended in one second, counted from the start of the window; seconds
/// after its end are included.
#[derive(Default)]
pub(crate) struct Second {
    pub ok: u64,
    pub errored: u64,
    pub tiles: u64,
    pub variants: u64,
    /// Microseconds.
    pub latencies: Vec<u32>,
}

impl Tally {
    pub(crate) fn new(window: Window, in_time: Option<Duration>) -> Self {
        let in_time = in_time.unwrap_or(Duration::MAX);
        Self {
            window,
            in_time,
            begun: Begun::default(),
            within: Within::default(),
            seconds: Vec::new(),
            last: window.start,
        }
    }

    pub(crate) fn record(&mut self, landed: Landed) {
        let Landed { intended, began, outcome } = landed;
        let took = outcome.ended.saturating_duration_since(intended);
        let in_time = u64::from(took <= self.in_time && outcome.result.is_ok());
        if self.window.holds(intended) {
            self.begun.lateness.push(micros(began.saturating_duration_since(intended)));
            self.begun.count(&outcome.result, took, in_time);
        }
        self.within.count(&outcome, in_time, self.window.share(began, outcome.ended));
        self.last = self.last.max(outcome.ended);
        if let Some(second) = self.second(outcome.ended) {
            match &outcome.result {
                Ok(done) => {
                    second.ok += 1;
                    second.tiles += done.tiles as u64;
                    second.variants += done.variants as u64;
                    second.latencies.push(micros(took));
                }
                Err(_) => second.errored += 1,
            }
        }
    }

    /// Counts a request that was due and not sent.
    pub(crate) fn unsent(&mut self, due: Instant, failure: Failure) {
        self.last = self.last.max(due);
        if let Some(second) = self.second(due) {
            second.errored += 1;
        }
        if self.window.holds(due) {
            self.within.errored += 1.0;
            self.begun.count(&Err(failure), Duration::ZERO, 0);
        }
    }

    fn second(&mut self, at: Instant) -> Option<&mut Second> {
        let index = at.checked_duration_since(self.window.start)?.as_secs() as usize;
        if self.seconds.len() <= index {
            self.seconds.resize_with(index + 1, Second::default);
        }
        self.seconds.get_mut(index)
    }
}

impl Begun {
    pub(crate) fn errored(&self) -> u64 {
        self.errors.values().map(|errors| errors.count).sum()
    }

    fn count(&mut self, result: &Result<Done, Failure>, took: Duration, in_time: u64) {
        match result {
            Ok(done) => {
                self.ok += 1;
                self.in_time += in_time;
                self.latencies.push(micros(took));
                if let Some(timing) = done.timing {
                    self.timings += 1;
                    self.timing_sum.queue += timing.queue;
                    self.timing_sum.encode += timing.encode;
                    self.timing_sum.synthesise += timing.synthesise;
                    self.timing_sum.total += timing.total;
                }
            }
            Err(failure) => {
                let new = || Errors { count: 0, first: failure.detail.clone() };
                self.errors.entry(failure.kind.clone()).or_insert_with(new).count += 1;
            }
        }
    }
}

impl Within {
    fn count(&mut self, outcome: &Outcome, in_time: u64, share: f64) {
        let part = |whole: u64| whole as f64 * share;
        self.bytes_out += part(outcome.bytes_out);
        self.bytes_in += part(outcome.bytes_in);
        self.in_time += part(in_time);
        match &outcome.result {
            Ok(done) => {
                self.ok += share;
                self.tiles += part(done.tiles as u64);
                self.variants += part(done.variants as u64);
            }
            Err(_) => self.errored += share,
        }
    }
}

/// Converts to microseconds; longer than u32 can hold (71 minutes) counts as that.
fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_in_the_window_is_waited_for_and_what_lies_in_it_by_half_counts_half() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut tally = Tally::new(
            Window { start: at(1_000), end: Some(at(3_000)) },
            Some(Duration::from_millis(900)),
        );
        let mut land = |began: u64, ended: u64, result: Result<Done, Failure>| {
            let outcome = Outcome { ended: at(ended), bytes_out: 10, bytes_in: 100, result };
            tally.record(Landed { intended: at(began), began: at(began), outcome });
        };
        let done = Done { tiles: 2, variants: 6, timing: None };
        land(0, 500, Ok(done));
        land(500, 1_500, Ok(done));
        land(1_500, 2_000, Ok(done));
        land(1_600, 2_100, Err(Failure::new("overloaded", "later")));
        land(2_500, 3_500, Ok(done));
        tally.unsent(at(2_900), Failure::new("outstanding", "full"));

        let (begun, within) = (&tally.begun, &tally.within);
        assert_eq!(
            (begun.ok, begun.in_time, begun.errored(), begun.latencies.as_slice()),
            (2, 1, 2, [500_000, 1_000_000].as_slice())
        );
        assert_eq!(
            (begun.errors["overloaded"].first.as_str(), begun.lateness.as_slice()),
            ("later", [0; 3].as_slice())
        );
        assert_eq!((within.ok, within.in_time, within.errored), (2.0, 1.0, 2.0));
        assert_eq!((within.tiles, within.variants, within.bytes_in), (4.0, 12.0, 300.0));
        assert_eq!(
            tally.seconds.iter().map(|second| (second.ok, second.errored)).collect::<Vec<_>>(),
            [(1, 0), (1, 2), (1, 0)]
        );
    }
}
