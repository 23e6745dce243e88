//! The progress of a run: a bar on a terminal, log lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::checkpoint::RunHeader;
use crate::run::monitor::StepReport;

/// Time between two log lines without a terminal.
const LOG_EVERY: Duration = Duration::from_secs(15);

/// Shows the steps of a run.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    /// Running means of the losses, so that a line shows the trend.
    smooth: Vec<(&'static str, f64)>,
    logged: Instant,
    tiles_since: usize,
    flops_since: f64,
    waited_since: f64,
}

impl Progress {
    /// Starts at `step` of `total`.
    pub(crate) fn start(step: u64, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total).with_position(step);
            let style =
                ProgressStyle::with_template("{bar:30} {pos}/{len} steps, {eta} left  {msg}")
                    .expect("a valid template");
            bar.set_style(style);
            bar
        });
        Self {
            bar,
            smooth: Vec::new(),
            logged: Instant::now(),
            tiles_since: 0,
            flops_since: 0.0,
            waited_since: 0.0,
        }
    }

    /// Shows the step just taken, at intervals.
    pub(crate) fn step(&mut self, header: &RunHeader, report: &StepReport) {
        if self.smooth.is_empty() {
            self.smooth = report.losses.clone();
        }
        for ((_, mean), (_, value)) in self.smooth.iter_mut().zip(&report.losses) {
            *mean += 0.05 * (value - *mean);
        }
        self.tiles_since += report.tiles;
        self.flops_since += report.flops;
        self.waited_since += report.waited_seconds;
        let elapsed = self.logged.elapsed();
        let due = if self.bar.is_some() { Duration::from_millis(500) } else { LOG_EVERY };
        if let Some(bar) = &self.bar {
            bar.set_position(header.step);
        }
        if elapsed < due && header.step < header.total_steps {
            return;
        }
        let rate = self.tiles_since as f64 / elapsed.as_secs_f64();
        let teraflops = self.flops_since / elapsed.as_secs_f64() / 1e12;
        let waiting = 100.0 * self.waited_since / elapsed.as_secs_f64();
        let line = self
            .smooth
            .iter()
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect::<Vec<_>>()
            .join(", ");
        match &self.bar {
            Some(bar) => bar.set_message(format!(
                "{rate:.0} tiles/s, {teraflops:.2} TFLOP/s, {waiting:.0} % waiting for input  \
                {line}"
            )),
            None => {
                let left = (header.total_steps - header.step) as f64 * report.tiles as f64
                    / rate.max(1e-9);
                tracing::info!(
                    "step {}/{}, {rate:.1} tiles/s, {teraflops:.2} TFLOP/s, {waiting:.0} % waiting \
                    for input, {left:.0} s left, {line}",
                    header.step,
                    header.total_steps
                );
            }
        }
        (self.logged, self.tiles_since, self.flops_since, self.waited_since) =
            (Instant::now(), 0, 0.0, 0.0);
    }
}
