//! The judge: a small classifier of domains. It predicts the domain of variants, and its features
//! give Fréchet and kernel distances between variants and real tiles.
//!
//! It is trained here on real tiles, and judges only variants of tiles that it was not trained on.
//! Its features are specific to the data set, so that these distances cannot be compared with those
//! of other networks.

use anyhow::Result;
use tch::{Device, Kind};

use crate::classifier::{Architecture, Classifier, FitConfig, fit, input};
use crate::evaluate::report::{JudgeReport, TakenFor};
use crate::evaluate::split::Split;
use crate::evaluate::{Domain, EvaluateArgs};
use restain_method::metrics::{Features, frechet_distance, kernel_distance};

const BATCH: usize = 32;
const LEARNING_RATE: f64 = 1e-3;

pub(super) struct Judge {
    classifier: Classifier,
    side: usize,
    domains: usize,
    pub report: JudgeReport,
}

/// The judge's figures for one technique's variants of a pair; none if no tile of one of its
/// domains may be judged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Opinion {
    pub frechet: Option<f64>,
    pub kid: Option<f64>,
    pub taken_for: Option<TakenFor>,
}

impl Judge {
    pub(super) fn train(split: &Split, domains: usize, args: &EvaluateArgs) -> Result<Self> {
        let classifier = Classifier::init(Architecture::Small, domains, args.seed, Device::Cpu);
        let config = FitConfig {
            learning_rate: LEARNING_RATE,
            epochs: args.classifier_epochs,
            batch: BATCH,
            seed: args.seed,
        };
        fit(&classifier, &split.training, &split.validation, &config, None)?;
        let report = JudgeReport {
            trained_on: split.trained_on.clone(),
            training_tiles: split.training.len(),
            held_out_tiles: split.held_out.len(),
            accuracy: 0.0,
            confusion: vec![vec![0; domains]; domains],
            judged_tiles: split
                .judged
                .iter()
                .map(|judged| judged.iter().filter(|judged| **judged).count())
                .collect(),
        };
        let mut judge = Self { classifier, side: split.training.side, domains, report };
        let pixels: Vec<&[u8]> = split.held_out.pixels.iter().map(Vec::as_slice).collect();
        for (taken, &label) in judge.taken(&pixels)?.into_iter().zip(&split.held_out.labels) {
            judge.report.confusion[label][taken] += 1;
        }
        let right: usize = (0..domains).map(|domain| judge.report.confusion[domain][domain]).sum();
        judge.report.accuracy = right as f64 / split.held_out.len() as f64;
        Ok(judge)
    }

    /// Judges variants of `from`'s tiles in styles of `to`.
    ///
    /// # Errors
    /// If libtorch fails.
    pub(super) fn compare(
        &self,
        from: &Domain,
        to: &Domain,
        domains: &[Domain],
        variants: &[Vec<u8>],
    ) -> Result<Opinion> {
        let asked: Vec<&[u8]> = variants
            .iter()
            .zip(&from.judged)
            .filter(|(_, judged)| **judged)
            .map(|(tile, _)| tile.as_slice())
            .collect();
        let real: Vec<&[u8]> = to
            .tiles
            .iter()
            .zip(&to.judged)
            .filter(|(_, judged)| **judged)
            .map(|(tile, _)| tile.tile.as_slice())
            .collect();
        if asked.is_empty() || real.is_empty() {
            return Ok(Opinion::default());
        }
        let (made, real) = (self.features(&asked)?, self.features(&real)?);
        let known = |value: f64| value.is_finite().then_some(value);
        let taken = self.taken(&asked)?;
        let share = |of: &Domain| {
            taken.iter().filter(|&&taken| domains[taken].name == of.name).count() as f64
                / taken.len() as f64
        };
        let (target, source) = (share(to), share(from));
        Ok(Opinion {
            frechet: known(frechet_distance(made.view(), real.view())),
            kid: known(kernel_distance(made.view(), real.view())),
            taken_for: Some(TakenFor { target, source, other: 1.0 - target - source }),
        })
    }

    /// Predicts the domain of each tile.
    fn taken(&self, tiles: &[&[u8]]) -> Result<Vec<usize>> {
        let mut taken = Vec::new();
        for batch in tiles.chunks(BATCH) {
            let logits = tch::no_grad(|| {
                self.classifier.logits(&input(batch, self.side, Device::Cpu), false)
            });
            let logits = Vec::<f32>::try_from(logits.to_kind(Kind::Float).reshape([-1]))?;
            let best = |row: &[f32]| {
                (0..row.len())
                    .max_by(|&a, &b| row[a].total_cmp(&row[b]))
                    .expect("at least two domains")
            };
            taken.extend(logits.chunks_exact(self.domains).map(best));
        }
        Ok(taken)
    }

    fn features(&self, tiles: &[&[u8]]) -> Result<Rows> {
        let mut rows = Rows { values: Vec::new(), width: 1 };
        for batch in tiles.chunks(BATCH) {
            let features = self.classifier.features(&input(batch, self.side, Device::Cpu));
            rows.width = features.size()[1] as usize;
            rows.values.extend(Vec::<f32>::try_from(features.reshape([-1]))?);
        }
        Ok(rows)
    }
}

/// Features, f32 [n, width] row-major.
struct Rows {
    values: Vec<f32>,
    width: usize,
}

impl Rows {
    fn view(&self) -> Features<'_> {
        Features::new(&self.values, self.width)
    }
}
