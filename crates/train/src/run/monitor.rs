//! The monitor of a run: curves, validation and sample grids.
//!
//! It does not change the run: it uses none of the run's random numbers and computes no gradients.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::model::vit::Vit;
use crate::objective::recipe::RecipeArgs;
use crate::run::checkpoint::RunHeader;
use crate::run::preview::{Preview, png};
use crate::run::tensorboard::EventFile;
use crate::run::validate::{Outcome, Parts, Validation};
use restain_bundle::atomic;

pub(crate) const SAMPLES_FOLDER: &str = "samples";

/// How often what is looked at. An interval of 0 is never.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Monitoring")]
pub(crate) struct WatchArgs {
    /// Hold this share of each domain's images out of training and validate on it [default: 0.05,
    /// at most 50 images of a domain, if every domain has 20 images; else 0]
    #[arg(long, value_name = "SHARE")]
    pub validation_share: Option<f64>,
    /// Validate on these official splits of the data set, instead of --validation-share; repeat, or
    /// separate by commas
    #[arg(long = "validation-split", value_name = "SPLIT", value_delimiter = ',')]
    pub validation_splits: Vec<String>,
    /// Validate on this many tiles
    #[arg(long, value_name = "TILES", default_value_t = 64)]
    pub validation_tiles: usize,
    /// Validate every this many updates; 0 never validates
    #[arg(long, value_name = "UPDATES", default_value_t = 500)]
    pub validate_every: u64,
    /// Draw a sample grid every this many updates; 0 draws none
    #[arg(long, value_name = "UPDATES", default_value_t = 1000)]
    pub samples_every: u64,
    /// Record the losses every this many updates; 0 records none
    #[arg(long, value_name = "UPDATES", default_value_t = 10)]
    pub scalars_every: u64,
}

impl WatchArgs {
    pub(crate) fn check(&self) -> Result<()> {
        let share = self.validation_share.unwrap_or_default();
        ensure!(
            (0.0..1.0).contains(&share),
            "--validation-share is {share}, and must be from 0 to less than 1"
        );
        ensure!(
            self.validation_share.is_none() || self.validation_splits.is_empty(),
            "--validation-share and --validation-split exclude each other: set one of them"
        );
        Ok(())
    }
}

/// The figures of one step.
pub(crate) struct StepReport {
    /// The terms of the last batch's loss, by name.
    pub losses: Vec<(&'static str, f64)>,
    pub learning_rate: f64,
    pub tiles: usize,
    /// Floating-point operations of the encoder in all processes, forward and, twice as many,
    /// backward.
    pub flops: f64,
    /// Duration of the step, and the part of it spent waiting for batches.
    pub seconds: f64,
    pub waited_seconds: f64,
}

/// Writes curves, and validates and draws samples at intervals.
pub(crate) struct Monitor {
    args: WatchArgs,
    objective: RecipeArgs,
    events: EventFile,
    validation: Option<Validation>,
    preview: Preview,
    folder: PathBuf,
    /// Tiles, seconds, and seconds spent waiting since the last point of the curves.
    since: (usize, f64, f64),
}

impl Monitor {
    /// Opens the curves in folder `state`, and continues them at the header's step.
    ///
    /// # Errors
    /// If they cannot be written, or an image cannot be read.
    pub(crate) fn open(
        state: &Path,
        args: &WatchArgs,
        objective: &RecipeArgs,
        parts: &Parts,
        header: &RunHeader,
        batch: usize,
    ) -> Result<Self> {
        let shown =
            if parts.kept_out.sources.is_empty() { &parts.training } else { &parts.kept_out };
        Ok(Self {
            validation: Validation::new(
                &parts.kept_out,
                objective,
                header,
                (args.validation_tiles, batch),
            )?,
            preview: Preview::new(shown, header)?,
            events: EventFile::open(state, header.scalars_bytes)?,
            folder: state.join(SAMPLES_FOLDER),
            args: args.clone(),
            objective: objective.clone(),
            since: (0, 0.0, 0.0),
        })
    }

    /// Records the step just taken. Returns true if its weights have the lowest validation loss so
    /// far.
    ///
    /// # Errors
    /// If a file cannot be written, or the validation loss is not finite.
    pub(crate) fn record(
        &mut self,
        vit: &Vit,
        header: &mut RunHeader,
        report: &StepReport,
    ) -> Result<bool> {
        let is_due = |every: u64| {
            every > 0 && (header.step.is_multiple_of(every) || header.step == header.total_steps)
        };
        let (scalars, samples, validate) = (
            is_due(self.args.scalars_every),
            is_due(self.args.samples_every),
            is_due(self.args.validate_every),
        );
        self.since.0 += report.tiles;
        self.since.1 += report.seconds;
        self.since.2 += report.waited_seconds;
        if scalars {
            self.scalars(header.step, report)?;
        }
        if samples {
            self.samples(vit, header)?;
        }
        match &self.validation {
            Some(validation) if validate => {
                let outcome = validation.measure(vit, header, &self.objective)?;
                self.validated(header, &outcome)
            }
            _ => Ok(false),
        }
    }

    /// Flushes the curves to disk. Returns the length of their file in bytes, which a checkpoint
    /// keeps.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn sync(&mut self) -> Result<u64> {
        self.events.sync()
    }

    fn scalars(&mut self, step: u64, report: &StepReport) -> Result<()> {
        let (tiles, seconds, waited) = std::mem::take(&mut self.since);
        let total = report.losses.iter().map(|(_, value)| value).sum();
        let terms = report
            .losses
            .iter()
            .copied()
            .chain([("total", total)])
            .map(|(name, value)| (format!("loss/{name}"), value));
        let rates = [
            ("learning_rate", report.learning_rate),
            ("input/tiles_per_second", tiles as f64 / seconds.max(1e-9)),
            ("input/wait_share", waited / seconds.max(1e-9)),
        ];
        let values: Vec<(String, f64)> =
            terms.chain(rates.map(|(name, value)| (name.to_owned(), value))).collect();
        self.events.scalars(step, values.iter().map(|(name, value)| (name.as_str(), *value)))
    }

    fn samples(&mut self, vit: &Vit, header: &RunHeader) -> Result<()> {
        let grid = self.preview.render(vit, header)?;
        let bytes = png(&grid)?;
        let path = self.folder.join(format!("step-{:08}.png", header.step));
        std::fs::create_dir_all(&self.folder)
            .and_then(|()| atomic::write_file(&path, &bytes))
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.events.picture(header.step, "samples", &grid, bytes)
    }

    fn validated(&mut self, header: &mut RunHeader, outcome: &Outcome) -> Result<bool> {
        let Outcome { terms, figures, score } = outcome;
        let more = [("total", score.total), ("psnr_db", score.psnr_db), ("ssim", score.ssim)];
        let values: Vec<(String, f64)> = terms
            .iter()
            .copied()
            .chain(more)
            .chain(figures.iter().copied())
            .map(|(name, value)| (format!("validation/{name}"), value))
            .collect();
        self.events
            .scalars(header.step, values.iter().map(|(name, value)| (name.as_str(), *value)))?;
        let is_best = header.best.is_none_or(|best| score.total < best.total);
        header.validated = Some(*score);
        if is_best {
            header.best = Some(*score);
        }
        let best = if is_best { ", the best so far" } else { "" };
        let figures: String =
            figures.iter().map(|(name, value)| format!(", {name} {value:.2}")).collect();
        tracing::info!(
            "validation at step {}: loss {:.4}, {:.2} dB, SSIM {:.3}{figures}{best}",
            score.step,
            score.total,
            score.psnr_db,
            score.ssim
        );
        Ok(is_best)
    }
}
