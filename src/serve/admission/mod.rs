//! Who may come in: a permit by tiles and bytes, taken before work is spent.
//!
//! The permit goes with the work. Every job and every answer in flight holds a share of it, so what a caller who left
//! still occupies stays counted until it is really gone. What is refused is told when to come back: the tiles in the
//! house over the rate at which tiles have been leaving it, whatever was done to them.
//!
//! It does not queue: a full house refuses at once, and the waiting is the caller's.

mod rate;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use rate::{DrainRate, advised};

use super::error::{Error, ErrorKind};
use super::metrics::Metrics;

/// The house: how much may be in it, and how much is.
pub struct Admission {
    max_tiles: usize,
    max_bytes: u64,
    house: Mutex<House>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct House {
    held: Held,
    rate: DrainRate,
    /// When tiles last left, or came into an empty house.
    since: Option<Instant>,
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
        Arc::new(Self { max_tiles, max_bytes, house: Mutex::default(), metrics })
    }

    /// Lends `bytes` for a body that has yet to be read. Its tiles are not known, so a house without room for one more
    /// refuses now, and not after the bytes have come.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub fn admit_body(self: &Arc<Self>, bytes: u64) -> Result<Arc<Permit>, Error> {
        self.body_if_free(bytes).map_err(|error| self.refuse(error))
    }

    /// As [`Admission::admit_body`], for one who waits and asks again: not counted as a refusal.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub fn body_if_free(self: &Arc<Self>, bytes: u64) -> Result<Arc<Permit>, Error> {
        self.lend(Held { tiles: 0, bytes }, 1)
    }

    /// Lends `tiles` and `bytes`, both or neither.
    ///
    /// # Errors
    /// `request_too_large` when the share would never fit, `overloaded` with the time to wait when it does not fit now.
    pub fn admit(self: &Arc<Self>, tiles: usize, bytes: u64) -> Result<Arc<Permit>, Error> {
        self.lend(Held { tiles, bytes }, tiles).map_err(|error| self.refuse(error))
    }

    /// Lends `share` when there is room for it and, in all, for `room` tiles.
    fn lend(self: &Arc<Self>, share: Held, room: usize) -> Result<Arc<Permit>, Error> {
        let Held { tiles, bytes } = share;
        if tiles > self.max_tiles || bytes > self.max_bytes {
            let needs =
                format!("the request needs {tiles} tiles and {bytes} bytes with its answer");
            let lends = format!(
                "{} tiles and {} bytes are lent in all: send fewer tiles or ask for fewer variants",
                self.max_tiles, self.max_bytes
            );
            return Err(Error::new(ErrorKind::RequestTooLarge, format!("{needs}; {lends}")));
        }
        let mut house = self.house.lock().expect("no code panics while it holds this lock");
        let held = house.held;
        if held.tiles + room > self.max_tiles || held.bytes + bytes > self.max_bytes {
            let wait = advised(house.rate.time_for(held.tiles));
            drop(house);
            let detail = format!(
                "{} of {} tiles and {} of {} bytes are taken: come back in {} s",
                held.tiles,
                self.max_tiles,
                held.bytes,
                self.max_bytes,
                wait.as_secs()
            );
            return Err(Error::new(ErrorKind::Overloaded, detail).retry_after(wait));
        }
        if held.tiles == 0 && tiles > 0 {
            house.since = Some(Instant::now());
        }
        house.held = Held { tiles: held.tiles + tiles, bytes: held.bytes + bytes };
        self.metrics.inflight(house.held.tiles, house.held.bytes);
        Ok(Arc::new(Permit { admission: Arc::clone(self), share }))
    }

    /// Counts a refusal, here or by a queue further on.
    pub fn refuse(&self, error: Error) -> Error {
        self.metrics.rejected(error.kind);
        error
    }

    fn take_back(&self, share: Held) {
        let mut house = self.house.lock().expect("no code panics while it holds this lock");
        house.held.tiles -= share.tiles;
        house.held.bytes -= share.bytes;
        if share.tiles > 0 {
            let now = Instant::now();
            let busy = house.since.replace(now).map_or(Duration::ZERO, |since| now - since);
            house.rate.record(share.tiles, busy);
        }
        self.metrics.inflight(house.held.tiles, house.held.bytes);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.take_back(self.share);
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
        house.house.lock().unwrap().rate.record(1, Duration::from_secs(2));
        let _permit = house.admit(4, 1).unwrap();
        assert_eq!(house.admit(1, 1).err().unwrap().retry_after, Some(Duration::from_secs(8)));
    }

    #[test]
    fn a_body_is_not_let_in_when_its_tiles_could_not_be() {
        let house = house();
        let body = house.admit_body(10).unwrap();
        let tiles = house.admit(4, 10).unwrap();
        assert_eq!(house.admit_body(1).err().unwrap().kind, ErrorKind::Overloaded);
        drop((body, tiles));
        assert!(house.admit_body(100).is_ok());
    }
}
