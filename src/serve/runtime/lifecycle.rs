//! The stage of the server's life, and the number of requests in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::serve::error::{Error, ErrorKind};

/// In the order they come; a server never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Listening, with its models still loading.
    Loading,
    Ready,
    /// Asked to stop: not ready for the load balancer, still serving who comes.
    Draining,
    /// No new work.
    Closed,
}

pub struct Lifecycle {
    stage: watch::Sender<Stage>,
    /// The stage that health over gRPC serves, set by a task of its own.
    published: watch::Sender<Stage>,
    requests: Arc<AtomicUsize>,
}

/// A request in the server, until dropped.
pub struct InFlightGuard(Arc<AtomicUsize>);

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Loading),
            published: watch::Sender::new(Stage::Loading),
            requests: Arc::default(),
        }
    }
}

impl Lifecycle {
    pub fn enter(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
    }

    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// The stage now and every later one, as they come.
    pub fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Notes that health over gRPC serves `stage`.
    pub fn published(&self, stage: Stage) {
        self.published.send_replace(stage);
    }

    /// Waits until health over gRPC serves `stage` or a later one.
    pub async fn until_published(&self, stage: Stage) {
        self.published
            .subscribe()
            .wait_for(|published| *published >= stage)
            .await
            .expect("the sender is in here");
    }

    /// # Errors
    /// `not_ready` before, `draining` after.
    pub fn takes_work(&self) -> Result<(), Error> {
        match self.stage() {
            Stage::Loading => Err(Error::new(
                ErrorKind::NotReady,
                "the models are still loading: wait until /health/ready answers 200",
            )),
            Stage::Ready | Stage::Draining => Ok(()),
            Stage::Closed => Err(draining()),
        }
    }

    /// The answer to a load balancer.
    ///
    /// # Errors
    /// `not_ready` before, `draining` from the first sign of the end.
    pub fn is_ready(&self) -> Result<(), Error> {
        if self.stage() == Stage::Draining { Err(draining()) } else { self.takes_work() }
    }

    pub fn begin_request(&self) -> InFlightGuard {
        self.requests.fetch_add(1, Ordering::SeqCst);
        InFlightGuard(Arc::clone(&self.requests))
    }

    pub fn in_flight(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn draining() -> Error {
    Error::new(ErrorKind::Draining, "the server is shutting down: send the request to another one")
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
