//! The published objective and that of the cross recipe, each a sum of named terms.
//!
//! With z the encoder, Za and Zc its halves, S the synthesiser, X standardised tiles, X' = S(Za,
//! Zc) and MSE the mean over all elements.
//!
//! *published* (arXiv 2407.02900, all weights 1, no stop-gradient; Tₖ one token's characteristics,
//! broadcast; Sₖ = S(Za, Tₖ)):
//!
//! - *reconstruction*: MSE(X, X')
//! - *anatomy*: MSE(Za(X'), Za) + Σₖ MSE(Za(Sₖ), Za)
//! - *characteristics*: MSE(Zc(X'), Zc) + Σₖ MSE(Zc(Sₖ), Tₖ)
//!
//! *cross* adds, for X̃ = X in another stain with the same anatomy (`restain_lab::stain`) and *style*
//! = the mean of a few tokens:
//!
//! - *restain*: MSE(S(Za(X), style of X̃), X̃) + MSE(S(Za(X̃), style of X), X)
//! - *transfer*: MSE(S(Za(X), Zc(X̃) aligned), X̃)
//! - *invariance*: MSE(Za(X̃), Za(X))
//! - *match*: MSE(S(Za(X), style of Y), X in the tones of Y), Y another tile of the batch: without it
//!   a style is only ever tried on the tissue that it came from
//! - *detail*: MSE(∂R, 0) over neighbouring pixels, R what each of the above leaves of its target:
//!   sharpness, which a mean over pixels hardly feels
//! - *border*: the same over the pixels on both sides of a patch border alone, where patches made
//!   apart show a grid
//!
//! each times its weight; one of weight 0 is left out, and what it costs with it.

use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

use crate::model::mixing::{Synthesiser, halves};
use crate::model::vit::Vit;
use restain_options::at_least;

/// The weights of the cross recipe's terms; reconstruction has weight 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, clap::Args)]
#[command(next_help_heading = "Loss")]
pub struct TermWeights {
    /// Weigh the published consistency terms, anatomy and characteristics, which double a step's
    /// cost (recipe cross)
    #[arg(long, value_name = "WEIGHT", default_value_t = Self::default().consistency_weight,
        value_parser = at_least(0.0))]
    pub consistency_weight: f64,
    /// Weigh re-staining a tile with a style of its copy in another stain (recipe cross)
    #[arg(long, value_name = "WEIGHT", default_value_t = Self::default().restain_weight,
        value_parser = at_least(0.0))]
    pub restain_weight: f64,
    /// Weigh re-staining a tile with the copy's characteristics patch by patch (recipe cross)
    #[arg(long, value_name = "WEIGHT", default_value_t = Self::default().transfer_weight,
        value_parser = at_least(0.0))]
    pub transfer_weight: f64,
    /// Weigh the difference of the anatomies of a tile and its copy in another stain (recipe cross)
    #[arg(long, value_name = "WEIGHT", default_value_t = Self::default().invariance_weight,
        value_parser = at_least(0.0))]
    pub invariance_weight: f64,
    /// Weigh re-staining a tile with a style of another tile (recipe cross)
    #[arg(long, value_name = "WEIGHT", default_value_t = Self::default().match_weight,
        value_parser = at_least(0.0))]
    pub match_weight: f64,
    /// Weigh errors of the differences between neighbouring pixels (recipe cross)
    #[arg(long, value_name = "WEIGHT", default_value_t = Self::default().detail_weight,
        value_parser = at_least(0.0))]
    pub detail_weight: f64,
    /// Weigh errors of the differences across patch borders (recipe cross)
    #[arg(long, value_name = "WEIGHT", default_value_t = Self::default().border_weight,
        value_parser = at_least(0.0))]
    pub border_weight: f64,
}

/// The best weights found: docs/results.md.
impl Default for TermWeights {
    fn default() -> Self {
        Self {
            consistency_weight: 0.0,
            match_weight: 4.0,
            detail_weight: 0.1,
            border_weight: 0.2,
            ..Self::first()
        }
    }
}

impl TermWeights {
    /// Returns weight 1 for the published loss and the cross-reconstruction terms, and 0 for the
    /// terms added later.
    pub fn first() -> Self {
        Self {
            consistency_weight: 1.0,
            restain_weight: 1.0,
            transfer_weight: 1.0,
            invariance_weight: 1.0,
            match_weight: 0.0,
            detail_weight: 0.0,
            border_weight: 0.0,
        }
    }

    /// Returns every weight with its flag.
    pub fn named(&self) -> [(&'static str, f64); 7] {
        [
            ("--consistency-weight", self.consistency_weight),
            ("--restain-weight", self.restain_weight),
            ("--transfer-weight", self.transfer_weight),
            ("--invariance-weight", self.invariance_weight),
            ("--match-weight", self.match_weight),
            ("--detail-weight", self.detail_weight),
            ("--border-weight", self.border_weight),
        ]
    }
}

/// One mix: the token of a tile whose characteristics are broadcast over the whole batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// Tile of the batch.
    pub sample: i64,
    /// Token of that tile, 0 = CLS.
    pub token: i64,
}

/// What the cross terms draw: X̃, and for each tile of the batch the tokens whose mean is a style,
/// i64 `[B, n]` of 1..=N.
pub struct Shift {
    /// X̃: f32 [B, C, H, W], standardised.
    pub tiles: Tensor,
    /// Tokens of each X̃.
    pub shifted_tokens: Tensor,
    /// Tokens of each X.
    pub own_tokens: Tensor,
    /// Y of each X, as an index into the batch: i64 `[B]`.
    pub other: Tensor,
    /// Tokens of each Y.
    pub other_tokens: Tensor,
    /// Each X in the tones of its Y: f32 [B, C, H, W], standardised.
    pub matched: Tensor,
}

/// The weighted terms of one step's loss, f32 [] each, in the order in which they are printed.
pub struct Losses(pub Vec<(&'static str, Tensor)>);

impl Losses {
    /// Returns the sum of the terms, f32 [].
    pub fn total(&self) -> Tensor {
        self.0
            .iter()
            .map(|(_, term)| term.shallow_clone())
            .reduce(|a, b| a + b)
            .expect("at least one term")
    }

    /// Returns every term as a number, and waits for the device.
    pub fn values(&self) -> Vec<(&'static str, f64)> {
        self.0.iter().map(|(name, term)| (*name, term.double_value(&[]))).collect()
    }
}

pub(crate) fn mse(a: &Tensor, b: &Tensor) -> Tensor {
    a.mse_loss(b, Reduction::Mean)
}

/// Computes losses.
///
/// See the module for the formulas.
pub struct Objective<'a> {
    pub vit: &'a Vit,
    pub synth: &'a Synthesiser,
    pub weights: &'a TermWeights,
    /// Detach the targets of the consistency terms. The published code does not.
    pub stop_gradient: bool,
}

impl Objective<'_> {
    /// Computes the published loss of standardised tiles, f32 [B, C, H, W].
    pub fn published(&self, tiles: &Tensor, mixes: &[Mix]) -> Losses {
        let z = self.vit.encode(tiles);
        let reconstruction = self.reconstruction(&z);
        let mut terms = vec![("reconstruction", mse(&reconstruction, tiles))];
        terms.extend(self.consistency(reconstruction, &z, mixes));
        Losses(terms)
    }

    /// Computes reconstruction, the consistency terms and the cross-reconstruction terms of
    /// standardised tiles, f32 [B, C, H, W]. X and X̃ share one pass through the encoder.
    pub fn cross(&self, tiles: &Tensor, mixes: &[Mix], shift: &Shift) -> Losses {
        let weights = self.weights;
        let batch = tiles.size()[0];
        let z = self.vit.encode(&Tensor::cat(&[tiles, &shift.tiles], 0));
        let (own, shifted) = (z.narrow(0, 0, batch), z.narrow(0, batch, batch));
        let (anatomy, characteristics) = halves(&own, &self.vit.geometry);
        let (shifted_anatomy, shifted_characteristics) = halves(&shifted, &self.vit.geometry);
        let broadcast = |anatomy: &Tensor, of: &Tensor, tokens: &Tensor| {
            self.synth.broadcast(anatomy, &style(of, tokens))
        };

        let reconstruction = self.reconstruction(&own);
        let mut rest = Residuals::default();
        rest.aim("reconstruction", 1.0, &[(&reconstruction, tiles)]);
        if weights.consistency_weight > 0.0 {
            let terms = self.consistency(reconstruction, &own, mixes);
            rest.terms.extend(
                terms.into_iter().map(|(name, term)| (name, term * weights.consistency_weight)),
            );
        }
        if weights.restain_weight > 0.0 {
            let there = broadcast(&anatomy, &shifted_characteristics, &shift.shifted_tokens);
            let back = broadcast(&shifted_anatomy, &characteristics, &shift.own_tokens);
            rest.aim("restain", weights.restain_weight, &[(&there, &shift.tiles), (&back, tiles)]);
        }
        if weights.transfer_weight > 0.0 {
            let made = self.synth.aligned(&anatomy, &shifted_characteristics);
            rest.aim("transfer", weights.transfer_weight, &[(&made, &shift.tiles)]);
        }
        if weights.invariance_weight > 0.0 {
            rest.terms
                .push(("invariance", mse(&shifted_anatomy, &anatomy) * weights.invariance_weight));
        }
        if weights.match_weight > 0.0 {
            let foreign = characteristics.index_select(0, &shift.other);
            rest.aim(
                "match",
                weights.match_weight,
                &[(&broadcast(&anatomy, &foreign, &shift.other_tokens), &shift.matched)],
            );
        }
        let patch = self.vit.geometry.patch_size() as i64;
        rest.losses(weights.detail_weight, weights.border_weight, patch)
    }

    /// Synthesises X' from Z: [B, N+1, E] → [B, C, H, W].
    fn reconstruction(&self, z: &Tensor) -> Tensor {
        let (anatomy, characteristics) = halves(z, &self.vit.geometry);
        self.synth.aligned(&anatomy, &characteristics)
    }

    /// Computes the published terms anatomy and characteristics.
    fn consistency(
        &self,
        reconstruction: Tensor,
        z: &Tensor,
        mixes: &[Mix],
    ) -> [(&'static str, Tensor); 2] {
        let batch = reconstruction.size()[0];
        let (anatomy, characteristics) = halves(z, &self.vit.geometry);
        let styles: Vec<Tensor> =
            mixes.iter().map(|mix| characteristics.get(mix.sample).get(mix.token)).collect();
        let mut made = vec![reconstruction];
        made.extend(styles.iter().map(|style| {
            self.synth.broadcast(&anatomy, &style.unsqueeze(0).expand([batch, -1], false))
        }));
        // X' and every Sₖ go through the encoder together.
        let (anatomies, characteristic_sets) =
            halves(&self.vit.encode(&Tensor::cat(&made, 0)), &self.vit.geometry);
        let aim = |latent: &Tensor| {
            if self.stop_gradient { latent.detach() } else { latent.shallow_clone() }
        };
        let mut anatomy_loss = mse(&anatomies.narrow(0, 0, batch), &aim(&anatomy));
        let mut characteristics_loss =
            mse(&characteristic_sets.narrow(0, 0, batch), &aim(&characteristics));
        for (k, style) in styles.iter().enumerate() {
            let first = (k as i64 + 1) * batch;
            anatomy_loss += mse(&anatomies.narrow(0, first, batch), &aim(&anatomy));
            characteristics_loss += mse(
                &characteristic_sets.narrow(0, first, batch),
                &aim(style).expand_as(&characteristics),
            );
        }
        [("anatomy", anatomy_loss), ("characteristics", characteristics_loss)]
    }
}

/// The terms so far, and the residual of each synthesised picture.
#[derive(Default)]
pub(crate) struct Residuals {
    terms: Vec<(&'static str, Tensor)>,
    /// Weight and residual [B, C, H, W].
    residuals: Vec<(f64, Tensor)>,
}

impl Residuals {
    /// Adds a term: the mean squares of pictures minus targets, [B, C, H, W] each.
    pub(crate) fn aim(&mut self, name: &'static str, weight: f64, pictures: &[(&Tensor, &Tensor)]) {
        let residuals: Vec<Tensor> =
            pictures.iter().map(|(made, target)| *made - *target).collect();
        let term =
            residuals.iter().map(mean_square).reduce(|a, b| a + b).expect("a term has a picture");
        self.terms.push((name, term * weight));
        self.residuals.extend(residuals.into_iter().map(|residual| (weight, residual)));
    }

    /// Adds a term without a picture, already weighted.
    pub(crate) fn push(&mut self, name: &'static str, term: Tensor) {
        self.terms.push((name, term));
    }

    /// Adds the terms over neighbouring pixels, with their weights; `patch` is the side of a patch.
    pub(crate) fn losses(mut self, detail_weight: f64, border_weight: f64, patch: i64) -> Losses {
        let total = |of: &dyn Fn(&Tensor) -> Tensor| {
            self.residuals
                .iter()
                .map(|(weight, residual)| of(residual) * *weight)
                .reduce(|a, b| a + b)
                .expect("a reconstruction")
        };
        if detail_weight > 0.0 {
            self.terms.push(("detail", total(&detail) * detail_weight));
        }
        if border_weight > 0.0 {
            self.terms.push(("border", total(&|residual| border(residual, patch)) * border_weight));
        }
        Losses(self.terms)
    }
}

fn mean_square(residual: &Tensor) -> Tensor {
    residual.square().mean(Kind::Float)
}

/// Computes the mean squares of vertical and of horizontal differences of neighbouring pixels, [B,
/// C, H, W] → [], added.
fn detail(residual: &Tensor) -> Tensor {
    let along = |axis: i64| mean_square(&residual.diff(1, axis, None::<Tensor>, None::<Tensor>));
    along(2) + along(3)
}

/// Computes the same for pairs of pixels across the boundaries of patches of `patch` pixels.
fn border(residual: &Tensor, patch: i64) -> Tensor {
    let along = |axis: i64| {
        let side = residual.size()[axis as usize];
        let (before, after) = (
            residual.slice(axis, patch - 1, side - patch, patch),
            residual.slice(axis, patch, side, patch),
        );
        mean_square(&(after - before))
    };
    along(2) + along(3)
}

/// Averages tokens `tokens[b]` of every tile b: [B, T, h], i64 [B, n] → [B, h].
pub(crate) fn style(characteristics: &Tensor, tokens: &Tensor) -> Tensor {
    let half = characteristics.size()[2];
    let picked =
        characteristics.gather(1, &tokens.unsqueeze(-1).expand([-1, -1, half], false), false);
    picked.mean_dim(1, false, Kind::Float)
}
