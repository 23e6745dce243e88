//! Counts and times of one model since it was loaded, over all transports. They are counted where
//! the work is done; the whole server's figures, with their distributions, are in `metrics`.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use crate::serve::batch::Tally;

#[derive(Default)]
pub struct Statistics(Mutex<Figures>);

/// Of requests whose model was known. All but the first three are of those that were answered.
#[derive(Clone, Copy, Default)]
pub struct Figures {
    /// When the last request came.
    pub last: Option<SystemTime>,
    /// Requests that were answered, from arrival to answer.
    pub answered: Tally,
    /// Requests that were refused or failed, or whose caller left.
    pub failed: Tally,
    pub tiles: u64,
    /// Waiting for the encoder.
    pub queue: Tally,
    pub decode: Tally,
    pub encode: Tally,
    pub synthesise: Tally,
}

/// Where the time of one request went.
pub struct Phases {
    pub queue: Duration,
    pub decode: Duration,
    pub encode: Duration,
    pub synthesise: Duration,
}

/// A request in flight. It counts as failed unless `answered` is called before it is dropped.
pub struct Asked {
    statistics: Arc<Statistics>,
    received: Instant,
    answered: bool,
}

impl Statistics {
    pub fn asked(self: &Arc<Self>, received: Instant) -> Asked {
        self.lock().last = Some(SystemTime::now());
        Asked { statistics: Arc::clone(self), received, answered: false }
    }

    pub fn figures(&self) -> Figures {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Figures> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

impl Asked {
    pub fn answered(mut self, tiles: usize, phases: &Phases) {
        self.answered = true;
        let mut figures = self.statistics.lock();
        figures.answered.add(self.received.elapsed());
        figures.tiles += tiles as u64;
        figures.queue.add(phases.queue);
        figures.decode.add(phases.decode);
        figures.encode.add(phases.encode);
        figures.synthesise.add(phases.synthesise);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.answered {
            self.statistics.lock().failed.add(self.received.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_answered_has_failed() {
        let statistics = Arc::new(Statistics::default());
        let received = Instant::now();
        let ms = Duration::from_millis;
        drop(statistics.asked(received));
        statistics
            .asked(received)
            .answered(3, &Phases { queue: ms(1), decode: ms(2), encode: ms(3), synthesise: ms(4) });
        let figures = statistics.figures();
        assert_eq!((figures.answered.count, figures.failed.count, figures.tiles), (1, 1, 3));
        assert_eq!((figures.queue.took, figures.encode.took), (ms(1), ms(3)));
        assert!(figures.last.is_some());
    }
}
