//! Where a server is in its life, and how many requests are in it.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::error::{Error, ErrorKind};

/// In the order they come; a server never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Listening, with its models still loading.
    Loading,
    Ready,
    /// Told to stop: not ready for the load balancer, still serving who comes.
    Draining,
    /// No new work.
    Closed,
}

const STAGES: [Stage; 4] = [Stage::Loading, Stage::Ready, Stage::Draining, Stage::Closed];

#[derive(Default)]
pub struct Lifecycle {
    stage: AtomicU8,
    requests: AtomicUsize,
}

/// A request in the server, until dropped.
pub struct Guest<'a>(&'a Lifecycle);

impl Lifecycle {
    pub fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::SeqCst);
    }

    pub fn stage(&self) -> Stage {
        STAGES[usize::from(self.stage.load(Ordering::SeqCst))]
    }

    /// # Errors
    /// `not_ready` before, `draining` after.
    pub fn takes_work(&self) -> Result<(), Error> {
        match self.stage() {
            Stage::Loading => Err(Error::new(ErrorKind::NotReady, "the models are still loading: /health/ready tells when they are")),
            Stage::Ready | Stage::Draining => Ok(()),
            Stage::Closed => Err(draining()),
        }
    }

    /// What a load balancer is told.
    ///
    /// # Errors
    /// `not_ready` before, `draining` from the first sign of the end.
    pub fn is_ready(&self) -> Result<(), Error> {
        if self.stage() == Stage::Draining { Err(draining()) } else { self.takes_work() }
    }

    pub fn guest(&self) -> Guest<'_> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        Guest(self)
    }

    pub fn guests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::SeqCst);
    }
}

fn draining() -> Error {
    Error::new(ErrorKind::Draining, "the server is shutting down: ask another one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_server_works_and_is_not_ready() {
        let life = Lifecycle::default();
        assert!(life.takes_work().is_err() && life.is_ready().is_err());
        life.enter(Stage::Ready);
        assert!(life.takes_work().is_ok() && life.is_ready().is_ok());
        life.enter(Stage::Draining);
        assert!(life.takes_work().is_ok() && life.is_ready().is_err());
        life.enter(Stage::Closed);
        life.enter(Stage::Ready);
        assert_eq!(life.takes_work().unwrap_err().kind, ErrorKind::Draining);
    }
}
