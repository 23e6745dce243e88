//! The arrival times of an open loop, fixed before the run and independent of the server. A
//! generator that waited for slow responses would send fewer requests while the server is slow, and
//! so hide the latency that other clients would see (coordinated omission).

use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::sync::mpsc::UnboundedSender;

use super::choices::Arrivals;

/// The stream of the seed that arrivals are drawn from; requests count up from 0 and never reach
/// it.
const STREAM: u64 = u64::MAX;

/// Offsets from the start: an infinite, rising sequence.
pub(crate) struct Schedule {
    arrivals: Arrivals,
    rate: f64,
    dice: ChaCha8Rng,
    passed: u64,
    at: f64,
}

impl Schedule {
    /// Returns the schedule of `rate` requests per second.
    pub(crate) fn new(arrivals: Arrivals, rate: f64, seed: u64) -> Self {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        dice.set_stream(STREAM);
        Self { arrivals, rate, dice, passed: 0, at: 0.0 }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.at = match self.arrivals {
            // From the count, so that rounding does not add up.
            Arrivals::Constant => self.passed as f64 / self.rate,
            // Gaps of independent arrivals are exponential: the inverse of its distribution, of a
            // uniform number in (0, 1].
            Arrivals::Poisson => {
                let uniform = ((self.dice.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
                self.at - uniform.ln() / self.rate
            }
        };
        self.passed += 1;
        Some(Duration::from_secs_f64(self.at))
    }
}

/// When the last request of an open loop begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// This long after the warm-up.
    Duration(Duration),
    /// When this many have begun after the warm-up.
    Requests(u64),
}

/// Returns the arrivals of the schedule up to the last.
pub(crate) fn take(
    schedule: impl Iterator<Item = Duration>,
    warmup: Duration,
    extent: Extent,
) -> impl Iterator<Item = Duration> {
    let mut measured = 0;
    schedule.take_while(move |&at| {
        measured += u64::from(at >= warmup);
        match extent {
            Extent::Duration(duration) => at < warmup + duration,
            Extent::Requests(requests) => measured <= requests,
        }
    })
}

/// Sends each arrival at its time, from a thread of its own: a thread sleeps to some ten
/// microseconds, the timers of the runtime to a millisecond, which would be part of every latency.
pub(crate) fn announce(
    start: Instant,
    arrivals: impl Iterator<Item = Duration> + Send + 'static,
    tell: UnboundedSender<Instant>,
) {
    std::thread::spawn(move || {
        for offset in arrivals {
            let due = start + offset;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if tell.send(due).is_err() {
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_arrivals_are_even_and_do_not_drift() {
        let schedule: Vec<_> = Schedule::new(Arrivals::Constant, 3.0, 0).take(300_001).collect();
        assert_eq!(
            (schedule[0], schedule[300_000]),
            (Duration::ZERO, Duration::from_secs(100_000))
        );
        assert!(
            schedule
                .windows(2)
                .all(|pair| ((pair[1] - pair[0]).as_secs_f64() - 1.0 / 3.0).abs() < 1e-6)
        );
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_vary_as_they_should() {
        let schedule: Vec<_> = Schedule::new(Arrivals::Poisson, 50.0, 1).take(100_000).collect();
        let gaps: Vec<f64> =
            schedule.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // The standard error of both is about 1/√100,000, a third of a per cent.
        assert!((mean * 50.0 - 1.0).abs() < 0.02, "{mean}");
        assert!(
            (variance.sqrt() / mean - 1.0).abs() < 0.02,
            "an exponential's deviation is its mean: {variance}"
        );
    }

    #[test]
    fn the_same_seed_has_the_same_arrivals() {
        let draw = |seed| Schedule::new(Arrivals::Poisson, 9.0, seed).take(20).collect::<Vec<_>>();
        assert_eq!(draw(4), draw(4));
        assert_ne!(draw(4), draw(5));
    }

    #[test]
    fn a_run_ends_by_time_or_by_count_and_the_warm_up_is_in_neither() {
        let schedule = || Schedule::new(Arrivals::Constant, 10.0, 0);
        let second = Duration::from_secs(1);
        assert_eq!(take(schedule(), second, Extent::Duration(2 * second)).count(), 30);
        assert_eq!(take(schedule(), second, Extent::Requests(5)).count(), 15);
    }
}
