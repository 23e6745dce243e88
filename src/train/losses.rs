//! The two training objectives, each a sum of named terms.
//!
//! With z the encoder, Za and Zc its halves, S the synthesiser, X standardised tiles, X' = S(Za, Zc) and MSE the mean
//! over all elements:
//!
//! *published* (arXiv 2407.02900, all weights 1, no stop-gradient; Tₖ one token's characteristics, broadcast; Sₖ = S(Za, Tₖ)):
//!   reconstruction   MSE(X, X')
//!   anatomy          MSE(Za(X'), Za) + Σₖ MSE(Za(Sₖ), Za)
//!   characteristics  MSE(Zc(X'), Zc) + Σₖ MSE(Zc(Sₖ), Tₖ)
//!
//! *cross* adds, for X̃ = X in another stain with the same anatomy (`stain_shift`):
//!   restain     MSE(S(Za(X), one token of Zc(X̃)), X̃) + MSE(S(Za(X̃), one token of Zc(X)), X)
//!   transfer    MSE(S(Za(X), Zc(X̃) aligned), X̃)
//!   invariance  MSE(Za(X̃), Za(X))

use tch::{Kind, Reduction, Tensor};

use crate::train::mixing::{Synthesiser, halves};
use crate::train::vit::Vit;

/// One tile's one token for each mix: its characteristics are broadcast over the whole batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// Tile of the batch.
    pub sample: i64,
    /// Token of that tile, 0 = CLS.
    pub token: i64,
}

/// What the cross terms draw: X̃, and for each tile of the batch the tokens whose styles are broadcast.
pub struct Shift {
    /// X̃ [B, C, H, W], standardised.
    pub tiles: Tensor,
    /// A token (1..=N) of each X̃, i64 `[B]`.
    pub shifted_token: Tensor,
    /// A token (1..=N) of each X, i64 `[B]`.
    pub own_token: Tensor,
}

/// The terms of one step, in the order in which they are printed.
pub struct Losses(pub Vec<(&'static str, Tensor)>);

impl Losses {
    pub fn total(&self) -> Tensor {
        self.0.iter().map(|(_, term)| term.shallow_clone()).reduce(|a, b| a + b).expect("at least one term")
    }

    /// Every term as a number; waits for the device.
    pub fn values(&self) -> Vec<(&'static str, f64)> {
        self.0.iter().map(|(name, term)| (*name, term.double_value(&[]))).collect()
    }
}

fn mse(a: &Tensor, b: &Tensor) -> Tensor {
    a.mse_loss(b, Reduction::Mean)
}

/// The published loss for tiles [B, C, H, W], with the given mixes.
pub fn published(vit: &Vit, synth: &Synthesiser, tiles: &Tensor, mixes: &[Mix]) -> Losses {
    Losses(published_terms(vit, synth, tiles, &vit.encode(tiles), mixes))
}

/// The published loss plus the cross-reconstruction terms. X and X̃ share one pass through the encoder.
pub fn cross(vit: &Vit, synth: &Synthesiser, tiles: &Tensor, mixes: &[Mix], shift: &Shift) -> Losses {
    let batch = tiles.size()[0];
    let z = vit.encode(&Tensor::cat(&[tiles, &shift.tiles], 0));
    let (own, shifted) = (z.narrow(0, 0, batch), z.narrow(0, batch, batch));
    let mut terms = published_terms(vit, synth, tiles, &own, mixes);

    let (anatomy, characteristics) = halves(&own, &vit.geometry);
    let (shifted_anatomy, shifted_characteristics) = halves(&shifted, &vit.geometry);
    let there = synth.broadcast(&anatomy, &pick(&shifted_characteristics, &shift.shifted_token));
    let back = synth.broadcast(&shifted_anatomy, &pick(&characteristics, &shift.own_token));
    terms.push(("restain", mse(&there, &shift.tiles) + mse(&back, tiles)));
    terms.push(("transfer", mse(&synth.aligned(&anatomy, &shifted_characteristics), &shift.tiles)));
    terms.push(("invariance", mse(&shifted_anatomy, &anatomy)));
    Losses(terms)
}

fn published_terms(vit: &Vit, synth: &Synthesiser, tiles: &Tensor, z: &Tensor, mixes: &[Mix]) -> Vec<(&'static str, Tensor)> {
    let batch = tiles.size()[0];
    let (anatomy, characteristics) = halves(z, &vit.geometry);
    let styles: Vec<Tensor> = mixes.iter().map(|mix| characteristics.get(mix.sample).get(mix.token)).collect();

    let reconstruction = synth.aligned(&anatomy, &characteristics);
    let reconstruction_loss = mse(&reconstruction, tiles);
    let mut made = vec![reconstruction];
    made.extend(styles.iter().map(|style| synth.broadcast(&anatomy, &style.unsqueeze(0).expand([batch, -1], false))));
    // X' and every Sₖ go through the encoder together.
    let (anatomies, characteristic_sets) = halves(&vit.encode(&Tensor::cat(&made, 0)), &vit.geometry);
    let mut anatomy_loss = mse(&anatomies.narrow(0, 0, batch), &anatomy);
    let mut characteristics_loss = mse(&characteristic_sets.narrow(0, 0, batch), &characteristics);
    for (k, style) in styles.iter().enumerate() {
        let first = (k as i64 + 1) * batch;
        anatomy_loss += mse(&anatomies.narrow(0, first, batch), &anatomy);
        characteristics_loss += mse(&characteristic_sets.narrow(0, first, batch), &style.expand_as(&characteristics));
    }
    vec![("reconstruction", reconstruction_loss), ("anatomy", anatomy_loss), ("characteristics", characteristics_loss)]
}

/// Token `index[b]` of every tile b: [B, T, h], i64 [B] → [B, h].
fn pick(characteristics: &Tensor, index: &Tensor) -> Tensor {
    let (batch, _, half) = characteristics.size3().expect("three axes");
    characteristics.gather(1, &index.view([batch, 1, 1]).expand([batch, 1, half], false), false).squeeze_dim(1)
}

/// X̃: each tile with its per-channel mean and deviation replaced by those of tile `other[b]`, the gain multiplied by
/// 1 + .15·`gain` and .2·`offset` added, in standardised units. tiles [B, C, H, W]; other i64 `[B]`; gain, offset `[B, C]`
/// standard normal.
pub fn stain_shift(tiles: &Tensor, other: &Tensor, gain: &Tensor, offset: &Tensor) -> Tensor {
    let mean = tiles.mean_dim([2, 3].as_slice(), true, Kind::Float);
    let deviation = tiles.std_dim([2, 3].as_slice(), false, true) + 1e-3;
    let channels = |t: &Tensor| t.unsqueeze(-1).unsqueeze(-1);
    // A blank tile has no contrast to match: unbounded gain would only amplify its noise.
    let matched = (deviation.index_select(0, other) / &deviation).clamp(0.25, 4.0);
    (tiles - &mean) * matched * (channels(gain) * 0.15 + 1.0) + mean.index_select(0, other) + channels(offset) * 0.2
}
