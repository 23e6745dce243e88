//! The training loop.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::checkpoint::{self, RunHeader};
use crate::loader::Loader;
use crate::losses::Losses;
use crate::mixing::Synthesiser;
use crate::progress::Progress;
use crate::recipe::{RecipeArgs, Scene};
use crate::vit::Vit;
use crate::watch::{StepReport, Watch};
use crate::world::World;
use restain_torch::adamw::{AdamW, cosine, gradient_norm, scale_gradients};

/// Set by Ctrl-C; the loop saves its state and returns at the end of the step under way.
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What the loop reads but does not change.
#[derive(Clone, Debug)]
pub(crate) struct LoopConfig {
    pub batch: usize,
    /// Batches of this process whose gradients are summed into one update.
    pub accumulate: usize,
    pub objective: RecipeArgs,
    pub learning_rate: f64,
    /// Longest gradient allowed, Euclidean norm; 0 leaves gradients alone, as published.
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

pub(crate) struct Trainer<'a> {
    pub vit: &'a Vit,
    pub optimiser: AdamW,
    pub header: RunHeader,
    pub config: LoopConfig,
    /// In the first process alone, which writes for all.
    pub watch: Option<Watch>,
    /// Where the state goes.
    pub dir: &'a Path,
    /// Who else takes the same steps.
    pub world: &'a World,
}

impl Trainer<'_> {
    /// Steps until the schedule ends, Ctrl-C, or images that cannot be read, with the state on disk by then. When a step
    /// itself fails, the state saved last stands: what led there may be in the weights already.
    pub(crate) fn run(&mut self, loader: &Loader, progress: &mut Progress) -> Result<Ending> {
        while self.header.step < self.header.total_steps {
            let started = Instant::now();
            let mut report = self.step(loader)?;
            report.seconds = started.elapsed().as_secs_f64();
            self.header.step += 1;
            // All stop at the same step, or those left would wait for the others' gradients.
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

    /// What the first process does after a step: shows it, validates, and writes the state when that is due.
    fn record(
        &mut self,
        report: &StepReport,
        started: Instant,
        progress: &mut Progress,
        due: bool,
    ) -> Result<()> {
        progress.step(&self.header, report);
        let is_best = match &mut self.watch {
            Some(watch) => watch.look(self.vit, &mut self.header, report)?,
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

    /// The state as it is now, with the curves that belong to it on the disk before it.
    pub(crate) fn save(&mut self) -> Result<()> {
        if let Some(watch) = &mut self.watch {
            self.header.scalars_bytes = watch.sync()?;
        }
        checkpoint::save(self.dir, &self.header, self.vit, &self.optimiser)
    }

    /// Saves all steps that were taken, since `error` came before the next changed anything.
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

    /// One update. Reports the last batch's losses; a loss or a gradient that is not finite ends the run before it reaches
    /// the weights.
    fn step(&mut self, loader: &Loader) -> Result<StepReport> {
        let synth =
            Synthesiser { geometry: self.header.geometry, pixel_order: self.header.pixel_order };
        let (mut losses, mut waited) = (Vec::new(), Duration::ZERO);
        let encoded = self.vit.encoded();
        let batches = (self.config.accumulate * self.world.size()) as u64;
        for part in 0..self.config.accumulate as u64 {
            let asked = Instant::now();
            let tiles = match loader.next(&self.header.normalisation, self.vit.device()) {
                Ok(tiles) => tiles,
                Err(error) => return Err(self.saved_before(error)),
            };
            waited += asked.elapsed();
            let draw = self.header.step * batches
                + part * self.world.size() as u64
                + self.world.rank() as u64;
            let scene =
                Scene { vit: self.vit, synth: &synth, normalisation: &self.header.normalisation };
            let terms: Losses =
                self.config.objective.losses(&scene, &tiles, self.header.seed, draw);
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
            cosine(self.config.learning_rate, self.header.step, self.header.total_steps);
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

    /// Scales all gradients together so that their joint norm is at most `clip`; a norm that is no number is refused.
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
