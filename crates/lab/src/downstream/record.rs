//! `--json`: the runs of an experiment, each written to disk when it is finished.
//!
//! A record belongs to one configuration. With an existing record, an experiment runs only what is
//! missing; seeds and techniques may be added.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::classifier::Score;
use crate::downstream::options::DownstreamArgs;
use crate::downstream::split::Split;
use crate::downstream::technique::Technique;
use crate::encodings::Model;
use restain_bundle::atomic;

/// Everything that the result of a run depends on besides its seed and technique.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Configuration(Value);

/// Fields that only some methods need, and `null` without them.
const OF_METHODS: [&str; 4] = ["bundle", "encoder", "spread", "worst_radius"];

/// One trained and tested classifier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub seed: u64,
    pub method: Technique,
    /// The best epoch, from 1.
    pub epoch: u64,
    /// Validation at that epoch.
    pub validation: Score,
    pub tests: Vec<Tested>,
    pub seconds: f64,
}

/// The result on one test domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tested {
    pub domain: String,
    pub accuracy: f64,
    /// The mean over the labels of the share of their tiles that are classified correctly.
    pub balanced_accuracy: f64,
    /// Expected calibration error: the mean distance of confidence and accuracy, over 15 bins of
    /// confidence.
    pub calibration_error: f64,
    /// `null` if the domain has only one label.
    pub auroc: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct File {
    configuration: Configuration,
    runs: Vec<Run>,
    /// The summary of the last experiment.
    #[serde(default)]
    summary: Value,
}

/// The file and its contents.
pub(super) struct Record {
    path: Option<PathBuf>,
    configuration: Configuration,
    /// Sorted by seed, then technique.
    pub runs: Vec<Run>,
}

impl Configuration {
    pub(super) fn new(args: &DownstreamArgs, split: &Split, model: Option<&Model>) -> Self {
        let fit = args.fit(0);
        Self(json!({
            "train_domains": args.train_domains,
            "validation_domain": args.validation_domain,
            "test_domains": args.test_domains,
            "labels": split.labels,
            "tiles": { "training": split.training.len(), "validation": split.validation.len(),
                "blake3": split.digest() },
            "classifier": args.classifier,
            "learning_rate": fit.learning_rate,
            "epochs": fit.epochs,
            "batch": fit.batch,
            "styles": args.styles(),
            "hed_sigma": args.hed_sigma,
            "target_styles": args.target_styles,
            "target_style_tiles": args.target_styles.map(|_| args.target_style_tiles),
            "spread": args.methods.iter().any(|method| method.spreads()).then_some(args.spread),
            "worst_radius": args.compares(Technique::VitWorst).then_some(args.worst_radius),
            "bundle": model.map(|model| &model.bundle.digest),
            "encoder": model.map(|_| args.encoder.to_string()),
        }))
    }

    /// Returns the names of the fields that differ. What only one of the two needs is not a
    /// difference.
    fn differences(&self, other: &Self) -> Vec<String> {
        let (mine, theirs) = (self.0.as_object(), other.0.as_object());
        let optional = |name: &str, value: &Value| OF_METHODS.contains(&name) && value.is_null();
        let same =
            |name: &str, a: &Value, b: &Value| a == b || optional(name, a) || optional(name, b);
        let pairs = mine.into_iter().flatten().map(|(name, value)| {
            (name, value, theirs.and_then(|all| all.get(name)).unwrap_or(&Value::Null))
        });
        pairs.filter(|(name, a, b)| !same(name, a, b)).map(|(name, _, _)| name.clone()).collect()
    }
}

impl Record {
    /// Opens the record at `path`, or starts one.
    ///
    /// # Errors
    /// If the file cannot be read or holds another experiment.
    pub(super) fn open(path: Option<&Path>, mut configuration: Configuration) -> Result<Self> {
        let mut runs = Vec::new();
        if let Some(path) = path.filter(|path| path.exists()) {
            let shown = path.display();
            let bytes =
                std::fs::read(path).with_context(|| format!("--json: cannot read {shown}"))?;
            let file: File = serde_json::from_slice(&bytes).with_context(|| {
                format!("--json: {shown} was not written by evaluate --downstream")
            })?;
            let differences = configuration.differences(&file.configuration);
            ensure!(
                differences.is_empty(),
                "--json: {shown} holds another experiment, which differs in {}: name another file",
                differences.join(", ")
            );
            for name in OF_METHODS {
                if configuration.0[name].is_null() {
                    configuration.0[name] = file.configuration.0[name].clone();
                }
            }
            runs = file.runs;
        }
        Ok(Self { path: path.map(Path::to_owned), configuration, runs })
    }

    /// Returns the run of a seed and a technique, if it is recorded.
    pub(super) fn find(&self, seed: u64, method: Technique) -> Option<&Run> {
        self.runs.iter().find(|run| (run.seed, run.method) == (seed, method))
    }

    /// Adds a run and writes the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn add(&mut self, run: Run) -> Result<()> {
        self.runs.push(run);
        self.runs.sort_by_key(|run| (run.seed, run.method));
        self.write(Value::Null)
    }

    /// Adds the summary and writes the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn finish(&self, summary: &impl Serialize) -> Result<()> {
        self.write(serde_json::to_value(summary)?)
    }

    /// Writes a new file and renames it over the old one, so that a kill loses only the run in
    /// progress.
    fn write(&self, summary: Value) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file =
            File { configuration: self.configuration.clone(), runs: self.runs.clone(), summary };
        let text = serde_json::to_string_pretty(&file)? + "\n";
        atomic::write_file(path, text.as_bytes())
            .with_context(|| format!("--json: cannot write {}", path.display()))
    }
}
