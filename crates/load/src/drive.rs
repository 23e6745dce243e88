//! The loop of a run, closed or open. It starts each request at its time, adds every result to the
//! tally, and ends when the last request has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::task::JoinSet;

use super::arrivals::Extent;
use super::body::Prepared;
use super::connection::Connection;
use super::exchange::{Failure, Terms, exchange};
use super::progress::Progress;
use super::tally::{Landed, Tally, Window};

/// What starts the next request.
pub(crate) enum Pace {
    /// The end of an earlier one.
    Closed { concurrency: usize, extent: Extent },
    /// Its arrival time.
    Open { arrivals: UnboundedReceiver<Instant>, max_outstanding: usize },
    /// Nothing: all have started.
    Over,
}

pub(crate) struct Driver {
    pub terms: Arc<Terms>,
    pub pace: Pace,
    /// Requests in order, prepared by another thread.
    pub requests: Receiver<Prepared>,
    pub tally: Tally,
    pub progress: Progress,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    Interrupted,
}

/// The interval between updates of the progress.
const GLANCE: Duration = Duration::from_millis(250);

impl Driver {
    /// Runs to the end, or until `interrupt`, which drops the requests in flight.
    pub(crate) async fn run(mut self, interrupt: impl Future<Output = ()>) -> (Tally, Ending) {
        let mut under_way = UnderWay { flights: JoinSet::new(), idle: Vec::new(), measured: 0 };
        let mut glance = tokio::time::interval(GLANCE);
        tokio::pin!(interrupt);
        let ending = loop {
            while self.pace.wants_more(&under_way, self.tally.window) {
                self.launch(Instant::now(), &mut under_way).await;
            }
            // A closed loop with nothing under way wanted nothing more.
            if under_way.flights.is_empty() && !matches!(self.pace, Pace::Open { .. }) {
                break Ending::Done;
            }
            tokio::select! {
                () = &mut interrupt => break Ending::Interrupted,
                Some(landed) = under_way.flights.join_next() => {
                    let (connection, landed) =
                        landed.expect("an exchange does not panic, and is never aborted");
                    under_way.idle.extend(connection);
                    self.tally.record(landed);
                }
                due = next(&mut self.pace) => self.arrive(due, &mut under_way).await,
                _ = glance.tick() => self.progress.show(&self.tally),
            }
        };
        self.progress.end();
        (self.tally, ending)
    }

    async fn arrive(&mut self, due: Option<Instant>, under_way: &mut UnderWay) {
        match (due, &mut self.pace) {
            (Some(due), Pace::Open { max_outstanding, .. })
                if under_way.flights.len() >= *max_outstanding =>
            {
                let detail = format!(
                    "{max_outstanding} requests were under way, and no more are sent at once"
                );
                self.tally.unsent(due, Failure::new("outstanding", detail));
            }
            (Some(due), _) => self.launch(due, under_way).await,
            (None, pace) => *pace = Pace::Over,
        }
    }

    async fn launch(&mut self, intended: Instant, under_way: &mut UnderWay) {
        let request =
            self.requests.recv().await.expect("the writer goes on until no request is left");
        under_way.measured += u64::from(self.tally.window.holds(intended));
        let (terms, idle) = (Arc::clone(&self.terms), under_way.idle.pop());
        under_way.flights.spawn(async move {
            let began = Instant::now();
            let (connection, outcome) = exchange(&terms, idle, request).await;
            (connection, Landed { intended, began, outcome })
        });
    }
}

struct UnderWay {
    flights: JoinSet<(Option<Connection>, Landed)>,
    idle: Vec<Connection>,
    /// Requests that have begun in the window.
    measured: u64,
}

impl Pace {
    /// Returns whether a closed loop sends another request now.
    fn wants_more(&self, under_way: &UnderWay, window: Window) -> bool {
        let Self::Closed { concurrency, extent } = *self else { return false };
        let goes_on = match extent {
            Extent::Duration(_) => window.end.is_some_and(|end| Instant::now() < end),
            Extent::Requests(requests) => under_way.measured < requests,
        };
        goes_on && under_way.flights.len() < concurrency
    }
}

/// Waits for the next arrival of an open loop; `None` after the last.
async fn next(pace: &mut Pace) -> Option<Instant> {
    match pace {
        Pace::Open { arrivals, .. } => arrivals.recv().await,
        Pace::Closed { .. } | Pace::Over => std::future::pending().await,
    }
}
