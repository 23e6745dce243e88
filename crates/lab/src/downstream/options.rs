//! The options of `evaluate --downstream`, their checks and defaults.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::classifier::{Architecture, FitConfig};
use crate::downstream::variants::{StyleSource, Technique};
use restain_bundle::Precision;
use restain_data::SelectionArgs;
use restain_torch::device::DeviceChoice;

/// The options of `evaluate --downstream`.
#[derive(Clone, Debug, clap::Args)]
pub struct DownstreamArgs {
    /// Folder of labelled tiles, `<domain>/…/<label>/image`
    #[arg(long)]
    pub data: PathBuf,
    /// Which of its images are used.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// What makes the variants of vit, and has the styles of --styles bank
    #[arg(long)]
    pub bundle: Option<PathBuf>,
    /// Run the bundle's encoder of this precision: fp32, fp16 or int8
    #[arg(long, default_value = "fp32")]
    pub encoder: Precision,
    /// Domains to train on
    #[arg(long, value_delimiter = ',', required = true)]
    pub train_domains: Vec<String>,
    /// Domain whose accuracy chooses the best epoch [default: a tenth of the training tiles, held out]
    #[arg(long)]
    pub validation_domain: Option<String>,
    /// Domains that nothing is trained on or chosen by
    #[arg(long, value_delimiter = ',', required = true)]
    pub test_domains: Vec<String>,
    /// What a batch holds beside its tiles: one variant of each. `none` puts in each tile once more, so that every
    /// method sees as many images in as many updates; all images of all methods are flipped and turned by chance
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["none", "hed-jitter", "color-match", "vit"])]
    pub methods: Vec<Technique>,
    /// Where vit takes its styles and color-match its statistics: from the bundle's bank, or from other tiles of the
    /// training domains [default: train, where there are two training domains or more]
    #[arg(long, value_enum)]
    pub styles: Option<StyleSource>,
    /// How far hed-jitter goes [default: as far as the server's]
    #[arg(long, default_value_t = 0.05)]
    pub hed_sigma: f64,
    /// Train this classifier
    #[arg(long, value_enum, default_value = "small")]
    pub classifier: Architecture,
    /// [default: 1e-3; densenet121: 1e-4]
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// [default: 10]
    #[arg(long)]
    pub epochs: Option<u64>,
    /// Tiles of one update, without their variants
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Tiles of each domain, as many of every label [default: all]
    #[arg(long)]
    pub per_domain: Option<usize>,
    /// Repetitions, each with weights and an order of its own, which the methods share
    #[arg(long, default_value_t = 10)]
    pub seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    pub seeds_from: u64,
    /// Runs at a time, each on one thread
    #[arg(long, default_value_t = 1)]
    pub jobs: usize,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Keep every run here; an experiment that was interrupted, or is given more seeds or methods, goes on from it
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Draw every run here, as SVG
    #[arg(long)]
    pub plot: Option<PathBuf>,
}

impl DownstreamArgs {
    /// Checks the options before anything is read.
    ///
    /// # Errors
    /// If a value is out of range, or two options contradict each other.
    pub fn check(&self) -> Result<()> {
        let methods: Vec<String> =
            self.methods.iter().map(|method| method.name().to_owned()).collect();
        for (option, names) in [
            ("--methods", &methods),
            ("--train-domains", &self.train_domains),
            ("--test-domains", &self.test_domains),
        ] {
            let twice = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name));
            ensure!(twice.is_none(), "{option} names {} twice", twice.map_or("", |(_, name)| name));
        }
        for test in &self.test_domains {
            ensure!(
                !self.train_domains.contains(test),
                "--test-domains: {test} is trained on (--train-domains)"
            );
            ensure!(
                self.validation_domain.as_ref() != Some(test),
                "--test-domains: {test} chooses the epoch (--validation-domain)"
            );
        }
        if let Some(domain) = &self.validation_domain {
            ensure!(
                !self.train_domains.contains(domain),
                "--validation-domain: {domain} is trained on (--train-domains)"
            );
        }
        let counts = [
            ("--seeds", self.seeds),
            ("--jobs", self.jobs as u64),
            ("--batch", self.batch as u64),
            ("--epochs", self.epochs()),
        ];
        for (option, count) in counts {
            ensure!(count > 0, "{option} is 0, and must be at least 1");
        }
        ensure!(
            self.learning_rate() > 0.0,
            "--learning-rate is {}, and must be above 0",
            self.learning_rate()
        );
        ensure!(self.hed_sigma >= 0.0, "--hed-sigma is {}, and must be at least 0", self.hed_sigma);
        if self.bundle.is_none() {
            let vit = self.methods.contains(&Technique::Vit);
            ensure!(
                !vit,
                "--bundle is needed for vit; without one: --methods none,hed-jitter,color-match"
            );
            let bank =
                self.methods.contains(&Technique::ColorMatch) && self.styles() == StyleSource::Bank;
            ensure!(
                !bank,
                "--bundle is needed for color-match with --styles bank; without one: --styles train"
            );
        }
        Ok(())
    }

    /// Returns where styles come from: by default from the training tiles if there are several training domains.
    pub fn styles(&self) -> StyleSource {
        let several = self.train_domains.len() > 1;
        self.styles.unwrap_or(if several { StyleSource::Train } else { StyleSource::Bank })
    }

    fn epochs(&self) -> u64 {
        self.epochs.unwrap_or(10)
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate.unwrap_or(match self.classifier {
            Architecture::Small => 1e-3,
            Architecture::DenseNet121 => 1e-4,
        })
    }

    /// Returns how to train the classifier of one run.
    pub fn fit(&self, seed: u64) -> FitConfig {
        FitConfig {
            learning_rate: self.learning_rate(),
            epochs: self.epochs(),
            batch: self.batch,
            seed,
        }
    }
}
