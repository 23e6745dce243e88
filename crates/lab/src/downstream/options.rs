//! The options of `evaluate --downstream`, their checks and defaults.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::classifier::{Architecture, FitConfig};
use crate::downstream::technique::{StyleSource, Technique};
use restain_bundle::Precision;
use restain_data::SelectionArgs;
use restain_options::{above, at_least, within};
use restain_torch::device::DeviceChoice;

/// The options of `evaluate --downstream`.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Experiment")]
pub struct DownstreamArgs {
    /// Use the labelled tiles of this folder or URL, `<domain>/…/<label>/image`
    #[arg(long, help_heading = "Data", value_name = "DIR")]
    pub data: PathBuf,
    /// Train on these domains; repeat, or separate by commas
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', required = true)]
    pub train_domains: Vec<String>,
    /// Choose the best epoch by the accuracy on this domain [default: a tenth of the training
    /// tiles, held out; whole slides, if --manifest names them]
    #[arg(long, value_name = "DOMAIN")]
    pub validation_domain: Option<String>,
    /// Test on these domains, which nothing is trained on or chosen by; repeat, or separate by
    /// commas
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', required = true)]
    pub test_domains: Vec<String>,
    /// Make the variants of vit with this bundle, and take the styles of --styles bank from it
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    /// Run the bundle's encoder of this precision: fp32, fp16 or int8
    #[arg(long, value_name = "PRECISION", default_value = "fp32")]
    pub encoder: Precision,
    /// Put one variant of each tile by these methods into a batch; `none` puts each tile in twice,
    /// so that every method sees as many images in as many updates. All images of all methods are
    /// flipped and rotated at random
    #[arg(long, value_name = "METHOD", value_enum, value_delimiter = ',', default_values = ["none",
        "color-jitter", "hed-jitter", "color-match", "vit"])]
    pub methods: Vec<Technique>,
    /// Take the styles of vit and the statistics of color-match from the bundle's bank, or from
    /// other tiles of the training domains [default: train, if there are two training domains or
    /// more]
    #[arg(long, value_name = "SOURCE", value_enum)]
    pub styles: Option<StyleSource>,
    /// Jitter haematoxylin, eosin and residual by this standard deviation in hed-jitter; the
    /// default is the server's
    #[arg(long, value_name = "SIGMA", default_value_t = 0.05, value_parser = at_least(0.0))]
    pub hed_sigma: f64,
    /// Draw the styles of vit-spread this wide, by the rule of the server's style.spread: 1 takes
    /// them as the bank holds them. The default places them at 0.6 to 1.64 times their distance
    /// from the bank's mean, so that many leave it, with noise along the bank's differences
    #[arg(long, value_name = "SPREAD", default_value_t = 1.8, value_parser = within(0.0, 3.0))]
    pub spread: f64,
    /// Let vit-worst go this far from the style that is drawn, in standard deviations of the styles
    #[arg(long, value_name = "RADIUS", default_value_t = 1.0, value_parser = at_least(0.0))]
    pub worst_radius: f64,
    /// Set aside this many tiles of each test domain, whatever their labels: they are not tested,
    /// and vit-target and color-match-target take their stains
    #[arg(long, value_name = "TILES", value_parser = at_least(1usize))]
    pub target_styles: Option<usize>,
    /// Measure each of these stains on this many of their tiles, as a bank's are
    #[arg(long, value_name = "TILES", default_value_t = 1, value_parser = at_least(1usize))]
    pub target_style_tiles: usize,
    /// Use this many tiles of each domain, as many of every label [default: all]
    #[arg(long, value_name = "TILES")]
    pub tiles_per_domain: Option<usize>,
    /// Repeat the experiment this often, each time with its own weights and order, which the
    /// methods share
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least(1u64))]
    pub seeds: u64,
    /// Compare every method with these, in pairs of one seed; they must be among --methods
    /// [default: none and color-match, as far as they are]
    #[arg(long, value_name = "METHOD", value_enum, value_delimiter = ',')]
    pub against: Vec<Technique>,
    /// Begin with this seed
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seeds_from: u64,
    /// Train classifiers of this architecture
    #[arg(long, help_heading = "Training", value_enum, default_value = "small")]
    pub classifier: Architecture,
    /// Learning rate [default: 1e-3; densenet121: 1e-4]
    #[arg(long, help_heading = "Training", value_name = "RATE", value_parser = above(0.0))]
    pub learning_rate: Option<f64>,
    /// Train for this many passes over the data [default: 10]
    #[arg(long, help_heading = "Training", value_parser = at_least(1u64))]
    pub epochs: Option<u64>,
    /// Put this many tiles in a batch, not counting their variants
    #[arg(long, help_heading = "Training", value_name = "TILES", default_value_t = 32,
        value_parser = at_least(1usize))]
    pub batch: usize,
    /// Train this many classifiers at once, each on one thread
    #[arg(long, help_heading = "Training", value_name = "N", default_value_t = 1,
        value_parser = at_least(1usize))]
    pub jobs: usize,
    /// Train on auto, cpu, cuda or cuda:N; auto uses CUDA if there is any
    #[arg(long, help_heading = "Training", default_value = "auto")]
    pub device: DeviceChoice,
    /// Which images of the data set are used.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Keep every run in this file; an interrupted experiment, or one with more seeds or methods,
    /// resumes from it
    #[arg(long, help_heading = "Report", value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw every run to this file, as SVG
    #[arg(long, help_heading = "Report", value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

impl DownstreamArgs {
    /// Checks the options together, before anything is read.
    ///
    /// # Errors
    /// When two options contradict each other.
    pub fn check(&self) -> Result<()> {
        let names = |methods: &[Technique]| -> Vec<String> {
            methods.iter().map(|method| method.name().to_owned()).collect()
        };
        let (methods, against) = (names(&self.methods), names(&self.against));
        for (option, names) in [
            ("--methods", &methods),
            ("--against", &against),
            ("--train-domains", &self.train_domains),
            ("--test-domains", &self.test_domains),
        ] {
            let twice = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name));
            ensure!(twice.is_none(), "{option} names {} twice", twice.map_or("", |(_, name)| name));
        }
        if let Some(other) = against.iter().find(|name| !methods.contains(name)) {
            anyhow::bail!("--against: {other} is not among --methods ({})", methods.join(", "));
        }
        let target = self.methods.iter().find(|method| method.targets());
        ensure!(
            target.is_none() || self.target_styles.is_some(),
            "--target-styles is needed for {}: how many tiles of each test domain are set aside \
            for it, for example 50",
            target.map_or("", |method| method.name())
        );
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
        if self.bundle.is_none() {
            let vit = self.methods.iter().find(|method| method.encodes());
            ensure!(
                vit.is_none(),
                "--bundle is needed for {}; without one: --methods \
                none,color-jitter,hed-jitter,color-match",
                vit.map_or("", |method| method.name())
            );
            let bank = self.methods.iter().find(|method| method.matches_colours());
            let bank = bank.filter(|_| self.styles() == StyleSource::Bank);
            ensure!(
                bank.is_none(),
                "--bundle is needed for {} with --styles bank; without one: --styles train",
                bank.map_or("", |method| method.name())
            );
        }
        Ok(())
    }

    /// Returns what every method is compared with.
    pub fn against(&self) -> Vec<Technique> {
        if !self.against.is_empty() {
            return self.against.clone();
        }
        let usual = [Technique::None, Technique::ColorMatch];
        usual.into_iter().filter(|baseline| self.methods.contains(baseline)).collect()
    }

    /// Returns whether one of the methods is this one.
    pub fn compares(&self, method: Technique) -> bool {
        self.methods.contains(&method)
    }

    /// Returns where styles come from: by default from the training tiles if there are several
    /// training domains.
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
