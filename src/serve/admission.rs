//! Who may come in: a permit by tiles and bytes, taken before work is spent.
//!
//! The permit goes with the work. Every job and every answer in flight holds a share of it, so what a caller who left
//! still occupies stays counted until it is really gone. What is refused is told when to come back: the tiles in line
//! over the rate at which the encoder has been clearing them.
//!
//! It does not queue: a full house refuses at once, and the waiting is the caller's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::{Error, ErrorKind};
use super::metrics::Metrics;

/// Longest wait that is ever advised: past it the rate says more about the past than about the future.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Weight of the newest batch in the measured rate.
const NEWEST: f64 = 0.2;

/// The house: how much may be in it, and how much is.
pub struct Admission {
    max_tiles: usize,
    max_bytes: u64,
    held: Mutex<Held>,
    rate: DrainRate,
    metrics: Arc<Metrics>,
}

#[derive(Clone, Copy, Default)]
struct Held {
    tiles: usize,
    bytes: u64,
}

/// A share of the house, given back when the last clone of its `Arc` is dropped.
pub struct Permit {
    admission: Arc<Admission>,
    share: Held,
}

impl Admission {
    pub fn new(max_tiles: usize, max_bytes: u64, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { max_tiles, max_bytes, held: Mutex::default(), rate: DrainRate::default(), metrics })
    }

    /// Lends `tiles` and `bytes`, both or neither.
    ///
    /// # Errors
    /// `request_too_large` when the share would never fit, `overloaded` with the time to wait when it does not fit now.
    pub fn admit(self: &Arc<Self>, tiles: usize, bytes: u64) -> Result<Arc<Permit>, Error> {
        if tiles > self.max_tiles || bytes > self.max_bytes {
            let needs = format!("the request needs {tiles} tiles and {bytes} bytes with its answer");
            let lends = format!(
                "{} tiles and {} bytes are lent in all: send fewer tiles or ask for fewer variants",
                self.max_tiles, self.max_bytes
            );
            return Err(self.refuse(Error::new(ErrorKind::RequestTooLarge, format!("{needs}; {lends}"))));
        }
        let mut held = self.held.lock().expect("no code panics while it holds this lock");
        let fits = held.tiles + tiles <= self.max_tiles && held.bytes + bytes <= self.max_bytes;
        if !fits {
            let Held { tiles: in_tiles, bytes: in_bytes } = *held;
            drop(held);
            let wait = self.rate.time_for(in_tiles.max(1));
            let detail = format!(
                "{in_tiles} of {} tiles and {in_bytes} of {} bytes are taken: come back in {} s",
                self.max_tiles,
                self.max_bytes,
                wait.as_secs()
            );
            return Err(self.refuse(Error::new(ErrorKind::Overloaded, detail).retry_after(wait)));
        }
        held.tiles += tiles;
        held.bytes += bytes;
        self.metrics.inflight(held.tiles, held.bytes);
        Ok(Arc::new(Permit { admission: Arc::clone(self), share: Held { tiles, bytes } }))
    }

    /// How fast the encoder clears tiles; the worker reports each batch here.
    pub fn rate(&self) -> &DrainRate {
        &self.rate
    }

    fn refuse(&self, error: Error) -> Error {
        self.metrics.rejected(error.kind);
        error
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.admission.held.lock().expect("no code panics while it holds this lock");
        held.tiles -= self.share.tiles;
        held.bytes -= self.share.bytes;
        self.admission.metrics.inflight(held.tiles, held.bytes);
    }
}

/// Tiles a second while the encoder is busy, as an average that forgets. Idle time is not in it: a house that was
/// empty for an hour drains no slower for it.
#[derive(Default)]
pub struct DrainRate(AtomicU64);

impl DrainRate {
    pub fn record(&self, tiles: usize, took: Duration) {
        let newest = tiles as f64 / took.as_secs_f64().max(1e-6);
        // One worker writes, or a few: a lost update of an average is not worth a loop.
        let before = f64::from_bits(self.0.load(Ordering::Relaxed));
        let after = if before == 0.0 { newest } else { before + NEWEST * (newest - before) };
        self.0.store(after.to_bits(), Ordering::Relaxed);
    }

    /// Whole seconds, at least one, for so many tiles.
    pub fn time_for(&self, tiles: usize) -> Duration {
        let rate = f64::from_bits(self.0.load(Ordering::Relaxed));
        let seconds = if rate > 0.0 { (tiles as f64 / rate).ceil() } else { 1.0 };
        Duration::from_secs(seconds.max(1.0) as u64).min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house() -> Arc<Admission> {
        Admission::new(4, 100, Arc::new(Metrics::new().unwrap()))
    }

    #[test]
    fn a_permit_is_given_back_when_its_last_holder_is_gone() {
        let house = house();
        let permit = house.admit(4, 10).unwrap();
        let job = Arc::clone(&permit);
        drop(permit);
        assert_eq!(house.admit(1, 1).err().unwrap().kind, ErrorKind::Overloaded);
        drop(job);
        assert!(house.admit(4, 100).is_ok());
    }

    #[test]
    fn what_would_never_fit_is_not_told_to_come_back() {
        let error = house().admit(1, 101).err().unwrap();
        assert_eq!((error.kind, error.retry_after), (ErrorKind::RequestTooLarge, None));
    }

    #[test]
    fn the_wait_follows_the_measured_rate() {
        let house = house();
        house.rate().record(1, Duration::from_secs(2));
        let _permit = house.admit(4, 1).unwrap();
        assert_eq!(house.admit(1, 1).err().unwrap().retry_after, Some(Duration::from_secs(8)));
    }
}
