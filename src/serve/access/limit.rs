//! Rate limit and concurrency limit of one key: a token bucket, and a count of requests in flight.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::keys::Key;

/// What one key has used. It survives a reload of the file, so that an edit does not refill the
/// bucket.
#[derive(Default)]
pub(super) struct Usage {
    bucket: Mutex<Option<Bucket>>,
    under_way: AtomicUsize,
}

/// Requests that are left, and when they were counted.
struct Bucket {
    left: f64,
    at: Instant,
}

/// How a key stands after a request, for those who pace themselves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Requests of a full bucket.
    pub burst: u32,
    /// Time in which an empty bucket fills.
    pub window: Duration,
    pub left: u32,
    /// Until the next request, or at once; in whole seconds a client would wait too long.
    pub next: Duration,
}

impl Usage {
    /// Takes one request out of the bucket, if there is one in it. Without a rate there is no
    /// bucket.
    pub(super) fn take(&self, key: &Key, now: Instant) -> Option<(bool, Standing)> {
        let rate = key.requests_per_second?;
        let burst = key.burst.unwrap_or_else(|| rate.ceil().min(f64::from(u32::MAX)) as u32);
        let mut bucket = self.bucket.lock().expect("no code panics while it holds this lock");
        let bucket = bucket.get_or_insert(Bucket { left: f64::from(burst), at: now });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * rate).min(f64::from(burst));
        bucket.at = now;
        let enough = bucket.left >= 1.0;
        if enough {
            bucket.left -= 1.0;
        }
        let next = Duration::try_from_secs_f64((1.0 - bucket.left).max(0.0) / rate)
            .unwrap_or(Duration::MAX);
        let window = Duration::try_from_secs_f64(f64::from(burst) / rate).unwrap_or(Duration::MAX);
        Some((enough, Standing { burst, window, left: bucket.left as u32, next }))
    }

    /// Counts one more under way, unless there are `most` already.
    pub(super) fn enter(&self, most: Option<usize>) -> bool {
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst);
        let fits = most.is_none_or(|most| under_way < most);
        if !fits {
            self.leave();
        }
        fits
    }

    pub(super) fn leave(&self) {
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::access::Scope;

    #[test]
    fn a_bucket_empties_and_fills_at_its_rate() {
        let key = Key {
            requests_per_second: Some(2.0),
            burst: Some(3),
            ..Key::new("a", "t", [Scope::Augment])
        };
        let (usage, start) = (Usage::default(), Instant::now());
        let at = |ms| usage.take(&key, start + Duration::from_millis(ms)).unwrap();
        let let_in: Vec<bool> =
            [0, 0, 0, 0, 499, 500, 501, 60_000, 60_000, 60_000, 60_000].map(|ms| at(ms).0).to_vec();
        assert_eq!(let_in, [true, true, true, false, false, true, false, true, true, true, false]);
        let (_, standing) = at(60_250);
        assert_eq!(
            (standing.burst, standing.left, standing.window),
            (3, 0, Duration::from_millis(1500))
        );
        assert_eq!(standing.next, Duration::from_millis(250));
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing() {
        let key = Key { requests_per_second: Some(1.0), ..Key::new("a", "t", [Scope::Augment]) };
        let (usage, start) = (Usage::default(), Instant::now() + Duration::from_secs(9));
        assert!(usage.take(&key, start).unwrap().0);
        assert!(!usage.take(&key, start - Duration::from_secs(5)).unwrap().0);
    }

    #[test]
    fn a_rate_far_out_is_no_trouble() {
        for rate in [f64::MIN_POSITIVE, f64::MAX] {
            let key =
                Key { requests_per_second: Some(rate), ..Key::new("a", "t", [Scope::Augment]) };
            let usage = Usage::default();
            assert!(usage.take(&key, Instant::now()).unwrap().0);
        }
    }

    #[test]
    fn what_left_makes_room() {
        let usage = Usage::default();
        assert!(usage.enter(Some(2)) && usage.enter(Some(2)) && !usage.enter(Some(2)));
        usage.leave();
        assert!(usage.enter(Some(2)) && usage.enter(None));
    }
}
