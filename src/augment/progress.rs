//! How far a job is: a bar on a terminal, log lines elsewhere; and what it did, for the summary.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::error::{AugmentError, Bad};
use super::home::{BadTile, Done};

/// Between two log lines where there is no terminal, and between two figures on one.
const LOG_EVERY: Duration = Duration::from_secs(10);
const SHOW_EVERY: Duration = Duration::from_millis(500);
/// Bad tiles that are named one by one; the others are in the note of the part.
const NAMED: usize = 20;

/// What the length of a job is counted in: the tiles of a tar are not known before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Tiles(u64),
    Bytes(u64),
}

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    extent: Extent,
    max_damaged: u64,
    /// What was there before this run, and what is there by now.
    before: Done,
    pub done: Done,
    bytes: u64,
    started: Instant,
    shown: Instant,
    tiles_shown: u64,
}

impl Progress {
    /// Of a part of which `before` is done already, by an earlier run.
    ///
    /// # Errors
    /// When that left out more tiles than are allowed now.
    pub(super) fn new(
        extent: Extent,
        max_damaged: u64,
        before: Done,
        bytes: u64,
    ) -> Result<Self, AugmentError> {
        let bar = std::io::stderr().is_terminal().then(|| {
            let (length, position, template) = match extent {
                Extent::Tiles(tiles) => {
                    (tiles, before.tiles, "{bar:30} {pos}/{len} tiles, {eta} left  {msg}")
                }
                Extent::Bytes(all) => {
                    (all, bytes, "{bar:30} {bytes}/{total_bytes}, {eta} left  {msg}")
                }
            };
            let style = ProgressStyle::with_template(template).expect("a valid template");
            let bar = ProgressBar::new(length).with_style(style).with_position(position);
            bar.reset_eta();
            bar
        });
        let now = Instant::now();
        let progress = Self {
            bar,
            extent,
            max_damaged,
            done: before.clone(),
            before,
            bytes,
            started: now,
            shown: now,
            tiles_shown: 0,
        };
        match progress.done.bad.get(max_damaged as usize) {
            Some(BadTile { kind, name, reason }) => {
                let (kind, name, reason) = (*kind, name.clone(), reason.clone());
                Err(progress.too_many(Bad { kind, name, reason }))
            }
            None => Ok(progress),
        }
    }

    pub(super) fn tile(&mut self, variants: u64) {
        self.done.tiles += 1;
        self.done.variants += variants;
        self.show();
    }

    /// Leaves a tile out, while that is allowed.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn bad(&mut self, bad: Bad) -> Result<(), AugmentError> {
        if self.done.bad.len() as u64 >= self.max_damaged {
            return Err(self.too_many(bad));
        }
        if self.done.bad.len() < NAMED {
            self.beside_the_bar(|| tracing::warn!("left out: {bad}"));
        }
        let Bad { kind, name, reason } = bad;
        self.done.bad.push(BadTile { kind, name, reason });
        self.show();
        Ok(())
    }

    /// Bytes of tars that were read.
    pub(super) fn read(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Tiles that this run dealt with.
    pub(super) fn tiles_of_this_run(&self) -> u64 {
        self.done.tiles - self.before.tiles
    }

    pub(super) fn variants_of_this_run(&self) -> u64 {
        self.done.variants - self.before.variants
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn too_many(&self, bad: Bad) -> AugmentError {
        AugmentError::Bad { bad, allowed: self.max_damaged }
    }

    fn beside_the_bar(&self, tell: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(tell),
            None => tell(),
        }
    }

    fn show(&mut self) {
        let (position, length) = match self.extent {
            Extent::Tiles(all) => (self.done.tiles + self.done.bad.len() as u64, all),
            Extent::Bytes(all) => (self.bytes, all),
        };
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
        let since = self.shown.elapsed();
        if since < if self.bar.is_some() { SHOW_EVERY } else { LOG_EVERY } {
            return;
        }
        let rate = (self.tiles_of_this_run() - self.tiles_shown) as f64 / since.as_secs_f64();
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("{rate:.1} tiles/s, {} left out", self.done.bad.len()))
            }
            None => {
                let percent = 100.0 * position as f64 / (length as f64).max(1.0);
                let (tiles, bad) = (self.done.tiles, self.done.bad.len());
                tracing::info!(
                    "{tiles} tiles done, {percent:.1} % of the part, {rate:.1} tiles/s, {bad} left \
                    out"
                );
            }
        }
        (self.shown, self.tiles_shown) = (Instant::now(), self.tiles_of_this_run());
    }
}

/// However the job ends, what is said of it stands on a line of its own.
impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
