//! The error to the truth, as a figure of a validation.
//!
//! For tiles X and Y of one field and a transform g of a kind that training does not draw: the
//! anatomy of X with a token of tissue of g(Y) is compared with g(X). So is what serving makes with
//! the slide on both sides: X, and what the change from the style of the slide to that of g(slide)
//! makes of its anatomy.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Kind, Tensor};

use super::pairs::Plan;
use super::slide::Slides;
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
    /// With one token.
    token: Sums,
    /// With the slides of both stains.
    slide: Sums,
}

#[derive(Default)]
struct Sums {
    pairs: f64,
    delta_e: f64,
    psnr_db: f64,
    /// Of glassy tiles, how many and their ΔE.
    glassy: (f64, f64),
    /// Of pixels that are glass, how many and how many levels they are from the truth.
    glass: (f64, f64),
}

impl Truth {
    /// Adds the pairs of a batch, whose tiles [2n, C, H, W] are standardised. Its random numbers
    /// depend on (seed, draw) alone.
    pub(crate) fn add(
        &mut self,
        scene: &Scene<'_>,
        (tiles, plan): (&Tensor, &Plan),
        (seed, draw): (u64, u64),
    ) {
        let n = plan.stains.len() as i64;
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ SALT);
        rng.set_stream(draw);
        // Pairs of one draw of a field share a transform, as in training.
        let mut drawn: Vec<Transform> = Vec::with_capacity(plan.stains.len());
        for (pair, stain) in plan.stains.iter().enumerate() {
            drawn.push(match pair.checked_sub(1) {
                Some(last) if plan.draws[last] == plan.draws[pair] => drawn[last].clone(),
                _ => unseen(stain, &mut rng),
            });
        }
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
        let inputs = Tensor::cat(&[tiles, &standardised(&truth, normalisation)], 0);
        let (anatomy, characteristics) = halves(&scene.vit.encode(&inputs), &scene.vit.geometry);
        let slides = Slides::whole(plan, tiles.device());
        let [own, changed] =
            [0, 2 * n].map(|start| slides.styles(&characteristics.narrow(0, start, 2 * n)));
        let tokens = Tensor::from_slice(&tokens).view([n, 1]).to_device(tiles.device());
        let style = style(&characteristics.narrow(0, 3 * n, n), &tokens);
        let of = anatomy.narrow(0, 0, n);
        let made = scene.synth.broadcast(&of, &style);
        let change = scene.synth.broadcast(&of, &(changed - own).narrow(0, 0, n));
        let (x, truth) = (tiles.narrow(0, 0, n), truth.narrow(0, 0, n));
        let glass = luminance(&shown.narrow(0, 0, n)).gt(GLASS);
        self.token.compare(&pixels(&made, normalisation), &truth, &glass);
        self.slide.compare(&pixels(&(x + change), normalisation), &truth, &glass);
    }

    /// Returns the means by name, without those that no tile or pixel counts for.
    pub(crate) fn figures(&self) -> Vec<(&'static str, f64)> {
        let [token, slide] = [&self.token, &self.slide].map(Sums::means);
        let names = [
            ["truth_delta_e", "truth_psnr_db", "truth_glassy_delta_e", "truth_glass_levels"],
            ["slide_delta_e", "slide_psnr_db", "slide_glassy_delta_e", "slide_glass_levels"],
        ];
        let named = names.into_iter().flatten().zip(token.into_iter().chain(slide));
        named.filter_map(|(name, mean)| Some((name, mean?))).collect()
    }
}

impl Sums {
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

    /// Returns the means of ΔE, PSNR, ΔE of glassy tiles and levels of glass, where anything counts
    /// for them.
    fn means(&self) -> [Option<f64>; 4] {
        let mean = |(count, sum): (f64, f64)| (count > 0.0).then(|| sum / count);
        let of_pairs = |sum| mean((self.pairs, sum));
        [of_pairs(self.delta_e), of_pairs(self.psnr_db), mean(self.glassy), mean(self.glass)]
    }
}
