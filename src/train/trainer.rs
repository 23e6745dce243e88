//! The training loop.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, bail};
use tch::Tensor;

use crate::train::adamw::{AdamW, cosine};
use crate::train::checkpoint::{self, RunHeader};
use crate::train::loader::Loader;
use crate::train::losses::Losses;
use crate::train::mixing::Synthesiser;
use crate::train::progress::Progress;
use crate::train::recipe::Mixing;
use crate::train::vit::Vit;

/// Set by Ctrl-C; the loop saves its state and returns at the end of the step under way.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What the loop reads but does not change.
#[derive(Clone, Copy, Debug)]
pub struct LoopConfig {
    pub batch: usize,
    /// Batches whose gradients are summed into one update.
    pub accumulate: usize,
    pub mixing: Mixing,
    pub learning_rate: f64,
    /// Longest gradient allowed, Euclidean norm; 0 leaves gradients alone, as published.
    pub clip: f64,
    /// Steps between two saves of the state.
    pub save_every: u64,
}

/// How a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Finished,
    Interrupted,
}

pub struct Trainer<'a> {
    pub vit: &'a Vit,
    pub optimiser: AdamW,
    pub header: RunHeader,
    pub config: LoopConfig,
    /// Where the state goes.
    pub dir: &'a Path,
}

impl Trainer<'_> {
    /// Steps until the schedule ends or Ctrl-C, with the state on disk by then. When a step fails, the state saved last
    /// stands.
    pub fn run(&mut self, loader: &Loader, progress: &mut Progress) -> Result<Ending> {
        let started = Instant::now();
        let before = self.header.seconds;
        while self.header.step < self.header.total_steps {
            let losses = self.step(loader)?;
            self.header.step += 1;
            self.header.seconds = before + started.elapsed().as_secs_f64();
            progress.step(&self.header, &losses, self.config.batch * self.config.accumulate);
            let interrupted = INTERRUPTED.load(Ordering::Relaxed);
            if interrupted || self.header.step.is_multiple_of(self.config.save_every) || self.header.step == self.header.total_steps {
                checkpoint::save(self.dir, &self.header, self.vit, &self.optimiser)?;
            }
            if interrupted {
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Finished)
    }

    /// One update. Returns the last batch's losses; a loss that is not finite ends the run before it reaches the weights.
    fn step(&mut self, loader: &Loader) -> Result<Vec<(&'static str, f64)>> {
        let synth = Synthesiser { geometry: self.header.geometry, pixel_order: self.header.pixel_order };
        let mut values = Vec::new();
        for part in 0..self.config.accumulate as u64 {
            let tiles = loader.next(&self.header.normalisation, self.vit.device())?;
            let draw = self.header.step * self.config.accumulate as u64 + part;
            let losses: Losses = self.header.recipe.losses(self.vit, &synth, &tiles, &self.config.mixing, draw);
            values = losses.values();
            if let Some((term, value)) = values.iter().find(|(_, value)| !value.is_finite()) {
                bail!("the loss term {term} is {value} at step {}, batch {draw}: the last saved state stands", self.header.step);
            }
            (losses.total() / self.config.accumulate as f64).backward();
        }
        if self.config.clip > 0.0 {
            clip(self.vit.parameters(), self.config.clip);
        }
        let rate = cosine(self.config.learning_rate, self.header.step, self.header.total_steps);
        self.optimiser.step(self.vit.parameters(), rate);
        Ok(values)
    }
}

/// Scales all gradients together so that their joint norm is at most `longest`.
fn clip(parameters: &[(String, Tensor)], longest: f64) {
    let norm = crate::train::adamw::gradient_norm(parameters);
    let scale = (longest / (norm + 1e-6)).clamp_max(1.0);
    tch::no_grad(|| parameters.iter().for_each(|(_, p)| drop(p.grad().g_mul_(&scale))));
}
