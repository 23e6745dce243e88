//! The drain rate, from which Retry-After is computed.

use std::time::Duration;

/// The longest Retry-After: past it the rate says more about the past than about the future.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Busy time after which a measurement counts for 1/e.
const MEMORY: Duration = Duration::from_secs(10);

/// Tiles a second of busy time, as an exponential moving average. Idle time does not count.
#[derive(Debug, Default)]
pub struct DrainRate {
    tiles: f64,
    busy_seconds: f64,
}

impl DrainRate {
    /// So many tiles left after so much busy time since the last of them.
    pub fn record(&mut self, tiles: usize, busy: Duration) {
        let seconds = busy.as_secs_f64().max(1e-6);
        let kept = (-seconds / MEMORY.as_secs_f64()).exp();
        self.tiles = self.tiles * kept + tiles as f64;
        self.busy_seconds = self.busy_seconds * kept + seconds;
    }

    /// How long so many tiles take; nothing while nothing was measured.
    pub fn time_for(&self, tiles: usize) -> Duration {
        if self.tiles > 0.0 {
            Duration::from_secs_f64(tiles as f64 * self.busy_seconds / self.tiles)
        } else {
            Duration::ZERO
        }
    }
}

/// Rounds up to whole seconds, at least one, as Retry-After has them.
pub fn advised(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs_f64().ceil().max(1.0) as u64).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_mean_and_follows_a_change() {
        let mut rate = DrainRate::default();
        assert_eq!(rate.time_for(100), Duration::ZERO);
        rate.record(10, Duration::from_secs(1));
        rate.record(20, Duration::from_secs(2));
        assert!((rate.time_for(10).as_secs_f64() - 1.0).abs() < 1e-9);
        for _ in 0..60 {
            rate.record(1, Duration::from_secs(1));
        }
        assert!((rate.time_for(10).as_secs_f64() - 10.0).abs() < 0.2, "{rate:?}");
    }

    #[test]
    fn advice_is_whole_seconds_between_one_and_sixty() {
        let advice =
            [0.0, 0.2, 3.1, 1e6].map(|wait| advised(Duration::from_secs_f64(wait)).as_secs());
        assert_eq!(advice, [1, 1, 4, 60]);
    }
}
