//! The runs of an experiment: every technique with every seed, several in parallel, each on one
//! thread.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use anyhow::Result;
use tch::Device;

use crate::classifier::{Classifier, fit, score};
use crate::downstream::options::DownstreamArgs;
use crate::downstream::record::{Record, Run, Tested};
use crate::downstream::split::Split;
use crate::downstream::statistics::{auroc, balanced_accuracy, calibration_error};
use crate::downstream::technique::Technique;
use crate::downstream::variants::Maker;

/// Tiles per batch of a test.
const TEST_BATCH: usize = 64;

/// What all runs share.
pub(super) struct Experiment<'a> {
    pub args: &'a DownstreamArgs,
    pub split: &'a Split,
    pub maker: &'a Maker<'a>,
    pub device: Device,
}

impl Experiment<'_> {
    /// Runs what the record lacks, and records each run when it ends.
    ///
    /// # Errors
    /// If a run fails or cannot be recorded.
    pub(super) fn run(&self, record: &mut Record) -> Result<()> {
        let all = self
            .seeds()
            .flat_map(|seed| self.args.methods.iter().map(move |&method| (seed, method)));
        let due: Vec<(u64, Technique)> =
            all.filter(|&(seed, method)| record.find(seed, method).is_none()).collect();
        let total = due.len();
        tracing::info!(
            "{total} runs to do, {} recorded already",
            self.seeds().count() * self.args.methods.len() - total
        );
        let (sender, finished) = channel();
        let queue = Mutex::new(due.into_iter());
        std::thread::scope(|scope| {
            for _ in 0..self.args.jobs.min(total) {
                let (sender, queue) = (sender.clone(), &queue);
                scope.spawn(move || self.work(queue, &sender));
            }
            drop(sender);
            for (done, run) in finished.into_iter().enumerate() {
                let run = run?;
                tracing::info!("{}/{total}: {}", done + 1, describe(&run));
                record.add(run)?;
            }
            Ok(())
        })
    }

    fn seeds(&self) -> std::ops::Range<u64> {
        self.args.seeds_from..self.args.seeds_from + self.args.seeds
    }

    fn work(
        &self,
        queue: &Mutex<impl Iterator<Item = (u64, Technique)>>,
        finished: &Sender<Result<Run>>,
    ) {
        // libtorch keeps this number per thread, so that parallel runs do not change the order of
        // each other's sums.
        tch::set_num_threads(1);
        let next = || queue.lock().expect("no run holds the queue").next();
        while let Some((seed, method)) = next() {
            // The receiver is gone, because an earlier run could not be recorded.
            if finished.send(self.train_and_test(seed, method)).is_err() {
                return;
            }
        }
    }

    fn train_and_test(&self, seed: u64, method: Technique) -> Result<Run> {
        let clock = Instant::now();
        let classes = self.split.labels.len();
        let classifier = Classifier::init(self.args.classifier, classes, seed, self.device);
        let mut bench = self.maker.bench(self.device);
        let mut variants = |batch: &[usize], rngs: &mut [_], out: &mut [u8]| {
            self.maker.make_batch((method, &classifier), batch, rngs, &mut bench, out)
        };
        let fitted = fit(
            &classifier,
            &self.split.training,
            &self.split.validation,
            &self.args.fit(seed),
            Some(&mut variants),
        )?;
        let tests = self.split.tests.iter().map(|(domain, tiles)| {
            let probabilities = classifier.probabilities(tiles, TEST_BATCH)?;
            Ok(Tested {
                domain: domain.clone(),
                accuracy: score(&probabilities, &tiles.labels).accuracy,
                balanced_accuracy: balanced_accuracy(&probabilities, &tiles.labels, classes),
                calibration_error: calibration_error(&probabilities, &tiles.labels, classes),
                auroc: auroc(&probabilities, &tiles.labels, classes),
            })
        });
        let tests = tests.collect::<Result<_>>()?;
        Ok(Run {
            seed,
            method,
            epoch: fitted.epoch,
            validation: fitted.validation,
            tests,
            seconds: clock.elapsed().as_secs_f64(),
        })
    }
}

/// Describes a run for the log.
fn describe(run: &Run) -> String {
    let tests: Vec<String> = run
        .tests
        .iter()
        .map(|test| format!("{} {:.3}", test.domain, test.balanced_accuracy))
        .collect();
    let (method, epoch, chosen) = (run.method.name(), run.epoch, run.validation.accuracy);
    format!(
        "seed {}, {method}: {}; validation {chosen:.3} at epoch {epoch}; {:.0} s",
        run.seed,
        tests.join(", "),
        run.seconds
    )
}
