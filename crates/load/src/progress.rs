//! Progress of a run: a bar on a terminal, log lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::arrivals::Extent;
use super::tally::Tally;

/// The interval between log lines without a terminal, and between figures on one.
const LOG_EVERY: Duration = Duration::from_secs(5);
const SHOW_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    extent: Extent,
    shown: Instant,
    /// Responses, variants and errors at the last update.
    before: [u64; 3],
}

impl Progress {
    pub(crate) fn new(extent: Extent) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let (length, template) = match extent {
                Extent::Duration(duration) => {
                    (duration.as_millis() as u64, "{bar:30} {percent:>3} %  {msg}")
                }
                Extent::Requests(requests) => (requests, "{bar:30} {pos}/{len}  {msg}"),
            };
            let style = ProgressStyle::with_template(template).expect("a valid template");
            ProgressBar::new(length).with_style(style)
        });
        Self { bar, extent, shown: Instant::now(), before: [0; 3] }
    }

    pub(crate) fn show(&mut self, tally: &Tally) {
        let Some(into) = Instant::now().checked_duration_since(tally.window.start) else {
            if let Some(bar) = &self.bar {
                bar.tick();
            }
            // Rates begin with the window.
            self.shown = tally.window.start;
            return;
        };
        let begun = tally.begun.ok + tally.begun.errored();
        if let Some(bar) = &self.bar {
            bar.set_position(match self.extent {
                Extent::Duration(duration) => into.min(duration).as_millis() as u64,
                Extent::Requests(_) => begun,
            });
        }
        let elapsed = self.shown.elapsed();
        if elapsed < if self.bar.is_some() { SHOW_EVERY } else { LOG_EVERY } {
            return;
        }
        let sum = |of: fn(&super::tally::Second) -> u64| tally.seconds.iter().map(of).sum::<u64>();
        let now =
            [sum(|second| second.ok), sum(|second| second.variants), sum(|second| second.errored)];
        let rate = |n: usize| (now[n] - self.before[n]) as f64 / elapsed.as_secs_f64();
        let line =
            format!("{:.1} requests/s, {:.1} variants/s, {} errors", rate(0), rate(1), now[2]);
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None => tracing::info!("{:.0} s: {line}", into.as_secs_f64()),
        }
        (self.shown, self.before) = (Instant::now(), now);
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
