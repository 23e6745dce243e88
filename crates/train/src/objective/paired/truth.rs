//! The error to the truth, as a figure of a validation.
//!
//! For tiles X and Y of one field and a transform g of a kind that training does not draw: the
//! anatomy of X with a token of tissue of g(Y) is compared with g(X).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Kind, Tensor};

use super::pairs::Plan;
use super::step::{pixels, standardised};
use crate::model::mixing::halves;
use crate::objective::losses::style;
use crate::objective::scene::Scene;
use restain_data::below;
use restain_lab::transform::Transform;
use restain_lab::transform::tensors::{Transforms, luminance};
use restain_lab::truth::{delta_e, psnr, unseen};
use restain_method::field::GLASS;

/// Keeps these draws apart from those of the pairs.
const SALT: u64 = 0x7472_7574_6800_0000;
/// Share of glass from which on a tile counts as glassy.
const GLASSY: f64 = 0.4;

/// Sums over the pairs of a validation.
#[derive(Default)]
pub(crate) struct Truth {
    pairs: f64,
    delta_e: f64,
    psnr_db: f64,
    /// Of glassy tiles, how many and their ΔE.
    glassy: (f64, f64),
    /// Of pixels that are glass, how many and how many levels they are from the truth.
    glass: (f64, f64),
}

impl Truth {
    /// Adds the pairs of a batch, whose tiles [2n, C, H, W] are standardised. Its random numbers depend on (seed, draw) alone.
    pub(crate) fn add(
        &mut self,
        scene: &Scene<'_>,
        (tiles, plan): (&Tensor, &Plan),
        (seed, draw): (u64, u64),
    ) {
        let n = plan.stains.len() as i64;
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ SALT);
        rng.set_stream(draw);
        let drawn: Vec<Transform> =
            plan.stains.iter().map(|stain| unseen(stain, &mut rng)).collect();
        let tokens: Vec<i64> = plan.tissue[n as usize..]
            .iter()
            .map(|patches| {
                let tissue: Vec<i64> =
                    (1..).zip(patches).filter(|(_, tissue)| **tissue).map(|(t, _)| t).collect();
                match tissue.is_empty() {
                    true => 1 + below(&mut rng, patches.len() as u64) as i64,
                    false => tissue[below(&mut rng, tissue.len() as u64) as usize],
                }
            })
            .collect();
        let normalisation = scene.normalisation;
        let shown = pixels(tiles, normalisation);
        let both = drawn.iter().cycle().take(2 * n as usize);
        let truth = Transforms::new(both, tiles.device()).apply(&shown);
        let (x, truth, gy) = (tiles.narrow(0, 0, n), truth.narrow(0, 0, n), truth.narrow(0, n, n));
        let inputs = Tensor::cat(&[&x, &standardised(&gy, normalisation)], 0);
        let (anatomy, characteristics) = halves(&scene.vit.encode(&inputs), &scene.vit.geometry);
        let tokens = Tensor::from_slice(&tokens).view([n, 1]).to_device(tiles.device());
        let style = style(&characteristics.narrow(0, n, n), &tokens);
        let made = pixels(&scene.synth.broadcast(&anatomy.narrow(0, 0, n), &style), normalisation);
        self.compare(&made, &truth, &luminance(&shown.narrow(0, 0, n)).gt(GLASS));
    }

    /// Compares pictures in 0..1, f32 [n, C, H, W]; `glass` is which pixels are glass [n, H, W].
    fn compare(&mut self, made: &Tensor, truth: &Tensor, glass: &Tensor) {
        let n = made.size()[0];
        let (error, quality) = (delta_e(made, truth), psnr(made, truth));
        let off = (made - truth).abs().mean_dim(1, false, Kind::Float) * 255.0;
        let glass = glass.to_kind(Kind::Float);
        for tile in 0..n {
            let delta_e = error.get(tile).mean(Kind::Float).double_value(&[]);
            self.pairs += 1.0;
            self.delta_e += delta_e;
            self.psnr_db += quality.double_value(&[tile]);
            if glass.get(tile).mean(Kind::Float).double_value(&[]) >= GLASSY {
                self.glassy.0 += 1.0;
                self.glassy.1 += delta_e;
            }
        }
        self.glass.0 += glass.sum(Kind::Float).double_value(&[]);
        self.glass.1 += (off * glass).sum(Kind::Float).double_value(&[]);
    }

    /// Returns the means by name, without those that no tile or pixel counts for.
    pub(crate) fn figures(&self) -> Vec<(&'static str, f64)> {
        let mean = |name, (count, sum): (f64, f64)| (count > 0.0).then(|| (name, sum / count));
        [
            mean("truth_delta_e", (self.pairs, self.delta_e)),
            mean("truth_psnr_db", (self.pairs, self.psnr_db)),
            mean("truth_glassy_delta_e", self.glassy),
            mean("truth_glass_levels", self.glass),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
