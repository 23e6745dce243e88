//! The recipes: what a training step draws at random, and the loss that it computes.

use anyhow::{Result, bail, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::objective::losses::{Losses, Mix, Objective, Shift, TermWeights};
use crate::objective::paired::options::PairedArgs;
use crate::objective::paired::step;
use crate::objective::scene::{Batch, Scene};
use restain_data::{below, normal};
use restain_lab::stain;
use restain_method::Normalisation;
use restain_options::{at_least, within};

/// `--recipe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// The published loss, nothing else.
    Published,
    /// Reconstruction, also of a stain-shifted copy and in the stains of other tiles.
    Cross,
    /// Two tiles of a field and one transform of both: exact targets, with glass that stays glass.
    Paired,
}

/// A transform that makes X̃ of X.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Stain {
    /// The colours of another tile, by mean and deviation, jittered
    ColorMatch,
    /// The tones of another tile, by quantiles where the picture is coarse
    Tone,
    /// Amounts of haematoxylin, eosin and residual jittered
    DensityJitter,
    /// Another gamma for each channel
    Gamma,
    /// Another scanner's focus: blurred or sharpened
    Focus,
}

/// What a tile wears after the style of another tile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum MatchTarget {
    /// The tile with the other's mean and deviation of each channel
    #[default]
    ColorMatch,
    /// The tile in the other's tones, by quantiles
    Tone,
}

/// What the loss is made of. Its defaults are those of [`Default`], in one place.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Loss")]
pub struct RecipeArgs {
    /// Train with this recipe
    #[arg(long, value_enum, default_value_t = Self::default().recipe)]
    pub recipe: Recipe,
    /// Mix this many styles into each tile for the consistency terms, K
    #[arg(long, value_name = "K", default_value_t = Self::default().mixes)]
    pub mixes: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub weights: TermWeights,
    #[command(flatten)]
    pub paired: PairedArgs,
    /// Make the copy of a tile in another stain by these transforms, one after the other (recipe
    /// cross)
    #[arg(long, value_name = "TRANSFORM", value_enum, value_delimiter = ',',
        default_values_t = Self::default().stains)]
    pub stains: Vec<Stain>,
    /// Compare a tile in another tile's style to this (recipe cross)
    #[arg(long, value_name = "TARGET", value_enum, default_value_t = Self::default().match_target)]
    pub match_target: MatchTarget,
    /// Move tones this far from colour matching, 0, to the other tile's quantiles, 1, and beyond
    #[arg(long, value_name = "SHARE", default_value_t = Self::default().tone_share,
        value_parser = within(0.0, 2.0))]
    pub tone_share: f64,
    /// Colour-match detail finer than this, in pixels, instead of toning it
    #[arg(long, value_name = "PIXELS", default_value_t = Self::default().tone_sigma,
        value_parser = within(0.0, 16.0))]
    pub tone_sigma: f64,
    /// Average this many tokens for a style (recipe cross)
    #[arg(long, value_name = "TOKENS", default_value_t = Self::default().style_tokens,
        value_parser = at_least(1usize))]
    pub style_tokens: usize,
    /// Draw mixes from the first three tokens alone, CLS among them, as the published code does
    #[arg(long)]
    pub first_tokens: bool,
    /// Stop the gradient at the latents that the consistency terms aim at
    #[arg(long)]
    pub stop_gradient: bool,
}

impl Default for RecipeArgs {
    fn default() -> Self {
        Self {
            recipe: Recipe::Paired,
            mixes: 4,
            weights: TermWeights::default(),
            paired: PairedArgs::default(),
            stains: vec![Stain::ColorMatch],
            match_target: MatchTarget::Tone,
            tone_share: 1.25,
            tone_sigma: 3.0,
            style_tokens: 1,
            first_tokens: false,
            stop_gradient: false,
        }
    }
}

/// Tokens that the published code draws styles from.
const FIRST_TOKENS: u64 = 3;

impl RecipeArgs {
    /// Checks the options together.
    ///
    /// # Errors
    /// When a weight is set that the recipe does not have.
    pub fn check(&self) -> Result<()> {
        let changed = self
            .weights
            .named()
            .into_iter()
            .zip(TermWeights::default().named())
            .find(|(given, default)| given != default);
        if let (Some(((flag, _), _)), Recipe::Published | Recipe::Paired) = (changed, self.recipe) {
            bail!("{flag} is for --recipe cross: this recipe has no such weight");
        }
        ensure!(
            self.recipe == Recipe::Paired || self.paired == PairedArgs::default(),
            "--paired-… options are for --recipe paired"
        );
        Ok(())
    }

    /// Returns how often a step encodes each tile, in one stain or another.
    pub fn encodings_per_tile(&self) -> f64 {
        let consistency = 1.0 + self.mixes as f64;
        match self.recipe {
            Recipe::Published => 1.0 + consistency,
            Recipe::Cross if self.weights.consistency_weight > 0.0 => 2.0 + consistency,
            Recipe::Cross | Recipe::Paired => 2.0,
        }
    }

    /// Computes the loss of one batch. Its random numbers depend on `seed` and `draw` alone.
    pub fn losses(&self, scene: &Scene<'_>, batch: &Batch, seed: u64, draw: u64) -> Losses {
        let tiles = &batch.tiles;
        // Streams are numbered from the top down; the data set's draws use them from zero up.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(u64::MAX - draw);
        let mut draws = Draws {
            rng,
            tiles: tiles.size()[0],
            patches: scene.vit.geometry.patches() as u64,
            device: tiles.device(),
        };
        let objective = Objective {
            vit: scene.vit,
            synth: scene.synth,
            weights: &self.weights,
            stop_gradient: self.stop_gradient,
        };
        match self.recipe {
            Recipe::Published => {
                let mixes = draws.mixes(self.mixes, self.first_tokens);
                objective.published(tiles, &mixes)
            }
            Recipe::Paired => {
                let plan = batch.plan.as_ref().expect("the loader of this recipe makes pairs");
                let drawn = (tiles, plan);
                step::losses(&self.paired, scene, drawn, self.style_tokens, &mut draws.rng)
            }
            Recipe::Cross => {
                let mixes = draws.mixes(self.mixes, self.first_tokens);
                objective.cross(tiles, &mixes, &self.shift(&mut draws, tiles, scene.normalisation))
            }
        }
    }

    fn shift(&self, draws: &mut Draws, tiles: &Tensor, normalisation: &Normalisation) -> Shift {
        let other = draws.others();
        let mut shifted = tiles.shallow_clone();
        for stain in &self.stains {
            shifted = match stain {
                Stain::ColorMatch => {
                    stain::stain_shift(&shifted, &other, &draws.normals(3), &draws.normals(3))
                }
                Stain::Tone => stain::toned(&shifted, &other, self.tone_share, self.tone_sigma),
                Stain::DensityJitter => stain::density_jitter(
                    &shifted,
                    normalisation,
                    &draws.normals(3),
                    &draws.normals(3),
                ),
                Stain::Gamma => stain::gamma(&shifted, normalisation, &draws.normals(3)),
                Stain::Focus => stain::refocused(&shifted, &draws.normals(1).clamp(-1.0, 1.0)),
            };
        }
        let [shifted_tokens, own_tokens, other_tokens] =
            std::array::from_fn(|_| draws.tokens(self.style_tokens));
        let matched = match self.match_target {
            MatchTarget::ColorMatch => stain::color_matched(tiles, &other),
            MatchTarget::Tone => stain::toned(tiles, &other, self.tone_share, self.tone_sigma),
        };
        Shift { tiles: shifted, shifted_tokens, own_tokens, other, other_tokens, matched }
    }
}

/// The random numbers of one step.
struct Draws {
    rng: ChaCha8Rng,
    /// Tiles of the batch.
    tiles: i64,
    patches: u64,
    device: Device,
}

impl Draws {
    /// Draws tokens of patches of any tile. With `first`, draws among the first three tokens, CLS
    /// included, as the published code does.
    fn mixes(&mut self, mixes: usize, first: bool) -> Vec<Mix> {
        let (tiles, patches, rng) = (self.tiles as u64, self.patches, &mut self.rng);
        let token = |rng: &mut ChaCha8Rng| {
            if first { below(rng, FIRST_TOKENS) } else { 1 + below(rng, patches) }
        };
        (0..mixes)
            .map(|_| Mix { sample: below(rng, tiles) as i64, token: token(rng) as i64 })
            .collect()
    }

    /// Draws another tile of the batch for each: i64 [B]. A batch of one is matched with itself.
    fn others(&mut self) -> Tensor {
        let (tiles, rng) = (self.tiles, &mut self.rng);
        let mut turned = |tile: i64| {
            if tiles == 1 { 0 } else { (tile + 1 + below(rng, tiles as u64 - 1) as i64) % tiles }
        };
        Tensor::from_slice(&(0..tiles).map(&mut turned).collect::<Vec<i64>>())
            .to_device(self.device)
    }

    /// Draws standard normal numbers, f32 [B, n].
    fn normals(&mut self, n: i64) -> Tensor {
        let drawn: Vec<f32> = (0..self.tiles * n).map(|_| normal(&mut self.rng) as f32).collect();
        Tensor::from_slice(&drawn).view([self.tiles, n]).to_device(self.device)
    }

    /// Draws tokens of patches for each tile, i64 [B, n].
    fn tokens(&mut self, n: usize) -> Tensor {
        let drawn: Vec<i64> = (0..self.tiles as usize * n)
            .map(|_| 1 + below(&mut self.rng, self.patches) as i64)
            .collect();
        Tensor::from_slice(&drawn).view([self.tiles, n as i64]).to_device(self.device)
    }
}
