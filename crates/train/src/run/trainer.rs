//! The training loop: steps, checks of the loss and gradients, and saving.
//!
//! Validation and curves are the monitor's part; loading images is the loader's.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tch::{Kind, Tensor};

use crate::input::loader::Loader;
use crate::model::mixing::Synthesiser;
use crate::model::vit::Vit;
use crate::objective::losses::Losses;
use crate::objective::recipe::RecipeArgs;
use crate::objective::scene::Scene;
use crate::run::checkpoint::{self, RunHeader};
use crate::run::monitor::{Monitor, StepReport};
use crate::run::progress::Progress;
use crate::world::World;
use restain_torch::adamw::{AdamW, cosine, gradient_norm, scale_gradients};

/// Tiles that are encoded to estimate the duration of a run.
const MEASURED_TILES: i64 = 4;

/// Set by Ctrl-C: the loop finishes the current step, saves its state and returns.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What the loop reads but does not change.
#[derive(Clone, Debug)]
pub(crate) struct LoopConfig {
    pub batch: usize,
    /// Gradient accumulation: batches of this process per update.
    pub accumulate: usize,
    pub objective: RecipeArgs,
    pub learning_rate: f64,
    /// Updates over which the learning rate rises to its schedule.
    pub warm_up: u64,
    /// Gradient clipping: largest L2 norm of all gradients; 0 disables clipping, as in the
    /// published code.
    pub clip: f64,
    /// Steps between two saves of the state.
    pub save_every: u64,
}

/// How a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Finished,
    Interrupted,
}

/// The loop with everything it changes.
pub(crate) struct Trainer<'a> {
    pub vit: &'a Vit,
    pub optimiser: AdamW,
    pub header: RunHeader,
    pub config: LoopConfig,
    /// Only in the first process, which writes all files.
    pub monitor: Option<Monitor>,
    /// The folder of the state.
    pub dir: &'a Path,
    /// The processes of the run.
    pub world: &'a World,
}

impl Trainer<'_> {
    /// Trains until the schedule ends or Ctrl-C, and saves the state.
    ///
    /// # Errors
    /// If images cannot be read (the state is saved first), a loss or a gradient is not finite (the
    /// last saved state remains, because the weights may already be damaged), or a file cannot be
    /// written.
    pub(crate) fn run(&mut self, loader: &Loader, progress: &mut Progress) -> Result<Ending> {
        while self.header.step < self.header.total_steps {
            let started = Instant::now();
            let mut report = self.step(loader)?;
            report.seconds = started.elapsed().as_secs_f64();
            self.header.step += 1;
            // All processes stop at the same step; otherwise some would wait for the others'
            // gradients.
            let interrupted = self.world.any(INTERRUPTED.load(Ordering::Relaxed))?;
            let due = interrupted
                || self.header.step.is_multiple_of(self.config.save_every)
                || self.header.step == self.header.total_steps;
            if self.world.is_first() {
                self.record(&report, started, progress, due)?;
            }
            if interrupted {
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Finished)
    }

    /// Logs about how long the steps will take, from the time to encode a few tiles. Validation
    /// comes on top.
    pub(crate) fn estimate(&self) {
        let side = self.header.geometry.image_size() as i64;
        let tiles =
            Tensor::zeros([MEASURED_TILES, 3, side, side], (Kind::Float, self.vit.device()));
        let encode = || {
            let z = tch::no_grad(|| self.vit.encode(&tiles));
            // Reading a value waits for the device.
            z.sum(Kind::Float).double_value(&[])
        };
        encode();
        let started = Instant::now();
        encode();
        let each = started.elapsed().as_secs_f64() / MEASURED_TILES as f64;
        let steps = self.header.total_steps - self.header.step;
        let encodings = (self.config.batch * self.config.accumulate) as f64
            * self.config.objective.encodings_per_tile();
        // A backward pass takes as long as two forward ones.
        let seconds = 3.0 * each * encodings * steps as f64;
        tracing::info!("{steps} steps will take about {}", duration(seconds));
    }

    /// Reports a step and validates; saves the state if `due`. Called in the first process only.
    fn record(
        &mut self,
        report: &StepReport,
        started: Instant,
        progress: &mut Progress,
        due: bool,
    ) -> Result<()> {
        progress.step(&self.header, report);
        let is_best = match &mut self.monitor {
            Some(monitor) => monitor.record(self.vit, &mut self.header, report)?,
            None => false,
        };
        self.header.seconds += started.elapsed().as_secs_f64();
        self.header.waited_seconds += report.waited_seconds;
        if is_best {
            checkpoint::save_best(self.dir, &self.header, self.vit)?;
        }
        if due {
            self.save()?;
        }
        Ok(())
    }

    /// Saves the state, after the curves that belong to it.
    ///
    /// # Errors
    /// If a value is not finite, or a file cannot be written.
    pub(crate) fn save(&mut self) -> Result<()> {
        if let Some(monitor) = &mut self.monitor {
            self.header.scalars_bytes = monitor.sync()?;
        }
        checkpoint::save(self.dir, &self.header, self.vit, &self.optimiser)
    }

    /// Saves the steps taken so far: `error` occurred before the next step changed anything.
    /// Returns the error with its context.
    fn saved_before(&mut self, error: anyhow::Error) -> anyhow::Error {
        if !self.world.is_first() {
            return error;
        }
        let (step, dir) = (self.header.step, self.dir);
        match self.save() {
            Ok(()) => error
                .context(format!("stopped at step {step}, whose state is in {}", dir.display())),
            Err(full) => error.context(format!(
                "stopped at step {step}, whose state could not be saved ({full:#})"
            )),
        }
    }

    /// Takes one step, and reports the losses of its last batch.
    ///
    /// # Errors
    /// If a loss or a gradient is not finite; the weights are then unchanged.
    fn step(&mut self, loader: &Loader) -> Result<StepReport> {
        let synth =
            Synthesiser { geometry: self.header.geometry, pixel_order: self.header.pixel_order };
        let (mut losses, mut waited) = (Vec::new(), Duration::ZERO);
        let encoded = self.vit.encoded();
        let batches = (self.config.accumulate * self.world.size()) as u64;
        for part in 0..self.config.accumulate as u64 {
            let asked = Instant::now();
            let batch = match loader.next(&self.header.normalisation, self.vit.device()) {
                Ok(batch) => batch,
                Err(error) => return Err(self.saved_before(error)),
            };
            waited += asked.elapsed();
            let draw = self.header.step * batches
                + part * self.world.size() as u64
                + self.world.rank() as u64;
            let scene =
                Scene { vit: self.vit, synth: &synth, normalisation: &self.header.normalisation };
            let terms: Losses =
                self.config.objective.losses(&scene, &batch, self.header.seed, draw);
            losses = terms.values();
            if let Some((term, value)) = losses.iter().find(|(_, value)| !value.is_finite()) {
                bail!(
                    "the loss term {term} is {value} at step {}, batch {draw}: {}",
                    self.header.step,
                    self.what_stands()
                );
            }
            self.vit.backward(&(terms.total() / batches as f64));
        }
        self.world.sum_gradients(self.vit.parameters())?;
        self.limit_gradients()?;
        let learning_rate =
            cosine(self.config.learning_rate, self.header.step, self.header.total_steps)
                * warm_up(self.header.step, self.config.warm_up);
        self.optimiser.step(self.vit.parameters(), learning_rate)?;
        let tiles = self.config.batch * batches as usize;
        let encoded = (self.vit.encoded() - encoded) as f64 * self.world.size() as f64;
        let flops = 3.0 * encoded * self.header.geometry.encoder_flops();
        Ok(StepReport {
            losses,
            learning_rate,
            tiles,
            flops,
            seconds: 0.0,
            waited_seconds: waited.as_secs_f64(),
        })
    }

    /// Clips the gradients: scales them so that their L2 norm is at most `clip`.
    ///
    /// # Errors
    /// If the norm is not finite.
    fn limit_gradients(&self) -> Result<()> {
        let norm = gradient_norm(self.vit.parameters())?;
        let value = norm.double_value(&[]);
        ensure!(
            value.is_finite(),
            "the gradient's norm is {value} at step {}: {}",
            self.header.step,
            self.what_stands()
        );
        if self.config.clip > 0.0 {
            scale_gradients(
                self.vit.parameters(),
                &(self.config.clip / (norm + 1e-6)).clamp_max(1.0),
            )?;
        }
        Ok(())
    }

    fn what_stands(&self) -> String {
        format!(
            "the last saved state in {} stands; a lower --learning-rate or --grad-clip may help",
            self.dir.display()
        )
    }
}

/// Returns a length of time in its two largest units.
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match (seconds, minutes) {
        (seconds, _) if seconds < 90.0 => format!("{seconds:.0} s"),
        (_, minutes) if minutes < 90 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// Returns the share of the learning rate at a step of a linear warm-up of `steps`.
fn warm_up(step: u64, steps: u64) -> f64 {
    if step >= steps { 1.0 } else { (step + 1) as f64 / steps as f64 }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_have_two_units_at_most() {
        let said = [12.4, 89.0, 95.0, 3600.0, 5400.0, 12_345.0].map(duration);
        assert_eq!(said, ["12 s", "89 s", "2 min", "60 min", "1 h 30 min", "3 h 26 min"]);
    }
}
