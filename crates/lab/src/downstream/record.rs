//! Every run of an experiment, on disk as soon as it is finished: `--json`.
//!
//! A record belongs to one configuration. Given again it goes on from what it holds; seeds and methods may be added.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::classifier::Score;
use crate::downstream::options::DownstreamArgs;
use crate::downstream::split::Split;
use crate::downstream::summary::Summary;
use crate::downstream::variants::Method;
use crate::encoded::Model;
use restain_bundle::atomic;

/// All that a run's outcome depends on besides its seed and method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Configuration(Value);

/// One trained and tested classifier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub seed: u64,
    pub method: Method,
    /// The epoch chosen, counted from 1.
    pub epoch: u64,
    /// At that epoch.
    pub validation: Score,
    pub tests: Vec<Tested>,
    pub seconds: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Tested {
    pub domain: String,
    pub accuracy: f64,
    /// null where the domain has one label only.
    pub auroc: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct File {
    configuration: Configuration,
    runs: Vec<Run>,
    /// Of the seeds and methods that were asked for last.
    #[serde(default)]
    summary: Value,
}

pub(super) struct Record {
    path: Option<PathBuf>,
    configuration: Configuration,
    /// By seed, then method.
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
            "tiles": { "training": split.training.len(), "validation": split.validation.len(), "blake3": split.digest() },
            "classifier": args.classifier,
            "learning_rate": fit.learning_rate,
            "epochs": fit.epochs,
            "batch": fit.batch,
            "styles": args.styles(),
            "hed_sigma": args.hed_sigma,
            "bundle": model.map(|model| &model.bundle.digest),
            "encoder": model.map(|_| args.encoder.to_string()),
        }))
    }

    /// The names of what differs. A bundle that one of the two has no need of makes no difference.
    fn differences(&self, other: &Self) -> Vec<String> {
        let (mine, theirs) = (self.0.as_object(), other.0.as_object());
        let optional =
            |name: &str, value: &Value| ["bundle", "encoder"].contains(&name) && value.is_null();
        let same =
            |name: &str, a: &Value, b: &Value| a == b || optional(name, a) || optional(name, b);
        let pairs = mine.into_iter().flatten().map(|(name, value)| {
            (name, value, theirs.and_then(|all| all.get(name)).unwrap_or(&Value::Null))
        });
        pairs.filter(|(name, a, b)| !same(name, a, b)).map(|(name, _, _)| name.clone()).collect()
    }
}

impl Record {
    pub(super) fn open(path: Option<&Path>, mut configuration: Configuration) -> Result<Self> {
        let mut runs = Vec::new();
        if let Some(path) = path.filter(|path| path.exists()) {
            let shown = path.display();
            let bytes =
                std::fs::read(path).with_context(|| format!("--json: {shown} cannot be read"))?;
            let file: File = serde_json::from_slice(&bytes).with_context(|| {
                format!("--json: {shown} is no experiment of evaluate --downstream")
            })?;
            let differences = configuration.differences(&file.configuration);
            ensure!(
                differences.is_empty(),
                "--json: {shown} holds another experiment, which differs in {}: name another file",
                differences.join(", ")
            );
            if configuration.0["bundle"].is_null() {
                configuration = file.configuration;
            }
            runs = file.runs;
        }
        Ok(Self { path: path.map(Path::to_owned), configuration, runs })
    }

    pub(super) fn find(&self, seed: u64, method: Method) -> Option<&Run> {
        self.runs.iter().find(|run| (run.seed, run.method) == (seed, method))
    }

    /// Adds a run and writes the file.
    pub(super) fn add(&mut self, run: Run) -> Result<()> {
        self.runs.push(run);
        self.runs.sort_by_key(|run| (run.seed, run.method));
        self.write(Value::Null)
    }

    pub(super) fn finish(&self, summary: &Summary) -> Result<()> {
        self.write(serde_json::to_value(summary)?)
    }

    /// Replaces the file in one step: a kill loses the run under way and no other.
    fn write(&self, summary: Value) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file =
            File { configuration: self.configuration.clone(), runs: self.runs.clone(), summary };
        let text = serde_json::to_string_pretty(&file)? + "\n";
        atomic::write_file(path, text.as_bytes())
            .with_context(|| format!("--json: cannot write {}", path.display()))
    }
}
