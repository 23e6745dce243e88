//! A phase of a command that takes a while: a bar with an estimate on a terminal, log lines
//! elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two log lines without a terminal.
const LOG_EVERY: Duration = Duration::from_secs(15);
/// A phase that was shorter than this is not logged.
const SHORT: Duration = Duration::from_millis(500);

/// A phase with a known number of parts. It ends when it is dropped, and logs how long it took.
pub struct Phase {
    /// What is done, for example `encoding tiles`.
    name: &'static str,
    total: u64,
    done: AtomicU64,
    started: Instant,
    logged: Mutex<Instant>,
    bar: Option<ProgressBar>,
}

impl Phase {
    /// Starts a phase of `total` parts.
    pub fn start(name: &'static str, total: usize) -> Self {
        let total = total as u64;
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {eta} left")
                .expect("a valid template");
            let bar = ProgressBar::new(total).with_style(style).with_message(name);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let started = Instant::now();
        Self { name, total, done: AtomicU64::new(0), started, logged: Mutex::new(started), bar }
    }

    /// Counts finished parts.
    pub fn advance(&self, parts: usize) {
        let done = self.done.fetch_add(parts as u64, Ordering::Relaxed) + parts as u64;
        if let Some(bar) = &self.bar {
            return bar.set_position(done);
        }
        let mut logged = self.logged.lock().expect("nothing panics while it is held");
        if done < self.total && logged.elapsed() >= LOG_EVERY {
            *logged = Instant::now();
            let left =
                self.started.elapsed().as_secs_f64() / done as f64 * (self.total - done) as f64;
            tracing::info!("{}: {done} of {}, {left:.0} s left", self.name, self.total);
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.started.elapsed() >= SHORT {
            tracing::info!("{}: {:.1} s", self.name, self.started.elapsed().as_secs_f64());
        }
    }
}
