//! The loss of one step of the paired recipe.
//!
//! With Xa, Xb two tiles of a field, g its transform, S the synthesiser and *style* the
//! characteristics of one token; what stands for a stands for b too:
//!
//! - *reconstruction*: MSE(S(Za(X), Zc(X) aligned), X), X each of Xa, Xb, g(Xa), g(Xb)
//! - *there*: MSE(S(Za(Xa), style of g(Xb)), g(Xa))
//! - *back*: MSE(S(Za(g(Xa)), style of Xb), Xa)
//! - *self*: MSE(S(Za(Xa), style of Xb), Xa) + MSE(S(Za(g(Xb)), style of g(Xa)), g(Xb))
//! - *invariance*: MSE(Za(Xa), Za(g(Xa)))
//! - *agreement*: MSE(S(Za(X), slide of X), S(Za(g(X)), slide of X)), and the same with the slide of
//!   g(X), X each of Xa, Xb: what the difference of the anatomies makes of pictures
//! - *change*: MSE(S(Za(X), slide of g(X)) − S(Za(X), slide of X), g(X) − X), X each of Xa, Xb, and
//!   the reverse. It is what serving adds to a tile.
//! - *beside*: MSE over the pixels that are still Xa's of S(Za(Xa beside glass or beside Xb), style)
//!   and S(Za(Xa), style), for the slide of Xa and that of g(Xa): tissue comes out alike whatever
//!   lies beside it, and so do tiles that overlap
//! - *detail*, *border*: as in the cross recipe, over what each of the above leaves of its target
//!
//! *slide* is the mean style of other tiles of the field; it takes the place of one token in some of
//! the terms there and back. The encoder sees some of g(Xa), g(Xb) with noise; targets have none.

use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::options::PairedArgs;
use super::pairs::Plan;
use super::slide::{Slides, rows};
use crate::model::mixing::halves;
use crate::objective::losses::{Losses, Residuals, mse, style};
use crate::objective::scene::Scene;
use restain_data::{below, normal, unit as uniform};
use restain_lab::transform::tensors::Transforms;
use restain_method::Normalisation;

/// Chance that a transformed input gets noise, and its largest deviation in 0..1.
const NOISE: (f64, f64) = (0.3, 0.012);
/// Chance that a style is a token of tissue; otherwise it is any patch's.
const TISSUE_STYLE: f64 = 0.85;

/// Chance that glass is put beside a part of a tile, instead of other tissue.
const BESIDE_GLASS: f64 = 0.5;

/// Places of the four sets of tiles that are encoded together.
const A: usize = 0;
const B: usize = 1;
const GA: usize = 2;
const GB: usize = 3;

/// A term's pictures: the anatomy of one set with the style of another gives a third.
type Picture = (usize, usize, usize);
type Pictures = [Picture; 2];

const THERE: Pictures = [(A, GB, GA), (B, GA, GB)];
const BACK: Pictures = [(GA, B, A), (GB, A, B)];
const OWN: Pictures = [(A, B, A), (GB, GA, GB)];

/// Computes the loss of standardised tiles [2n, C, H, W], every Xa and then every Xb. What is
/// random in it comes from `rng`.
pub(crate) fn losses(
    args: &PairedArgs,
    scene: &Scene<'_>,
    (tiles, plan): (&Tensor, &Plan),
    style_tokens: usize,
    rng: &mut ChaCha8Rng,
) -> Losses {
    let draws = Draws { rng, plan, style_tokens, device: tiles.device() };
    Step { args, scene, tiles, draws }.losses()
}

struct Step<'a> {
    args: &'a PairedArgs,
    scene: &'a Scene<'a>,
    tiles: &'a Tensor,
    draws: Draws<'a>,
}

impl Step<'_> {
    fn losses(mut self) -> Losses {
        let (args, scene) = (self.args, self.scene);
        let n = self.draws.plan.transforms.len() as i64;
        let both = self.draws.plan.transforms.iter().cycle().take(2 * n as usize);
        let pixels = pixels(self.tiles, scene.normalisation);
        let transformed = Transforms::new(both, self.tiles.device()).apply(&pixels);
        let noisy = &transformed + self.draws.noise(&transformed);
        let targets =
            Tensor::cat(&[self.tiles, &standardised(&transformed, scene.normalisation)], 0);
        let inputs = Tensor::cat(&[self.tiles, &standardised(&noisy, scene.normalisation)], 0);

        let z = scene.vit.encode(&inputs);
        let (anatomy, characteristics) = halves(&z, &scene.vit.geometry);
        let set = |of: &Tensor, set: usize| of.narrow(0, set as i64 * n, n);
        let mut sum = Residuals::default();
        sum.aim(
            "reconstruction",
            1.0,
            &[(&scene.synth.aligned(&anatomy, &characteristics), &targets)],
        );

        let slides = Slides::draw(self.draws.plan, self.draws.rng, self.tiles.device());
        let [plain, shifted] =
            [0, 2 * n].map(|start| slides.styles(&characteristics.narrow(0, start, 2 * n)));
        let slides = Tensor::cat(&[&plain, &shifted], 0);

        let mut tokens = Vec::new();
        let mut made: [Vec<(Tensor, Tensor)>; 2] = [Vec::new(), Vec::new()];
        let picture = |tokens: &[Tensor; 4], by_slide: &[bool], (of, by, target): Picture| {
            let token = style(&set(&characteristics, by), &tokens[by]);
            // The slide of the target, which does not count itself.
            let style = rows(by_slide, &set(&slides, target), &token);
            (scene.synth.broadcast(&set(&anatomy, of), &style), set(&targets, target))
        };
        for _ in 0..args.draws {
            let (drawn, by_slide) = (self.draws.tokens(), self.draws.by_slide(args.slide));
            made[0].extend(THERE.map(|of| picture(&drawn, &by_slide, of)));
            made[1].extend(BACK.map(|of| picture(&drawn, &by_slide, of)));
            tokens.push(drawn);
        }
        let last = tokens.last().expect("at least one draw");
        let each = 1.0 / args.draws as f64;
        let [there, back] = &made;
        let by_token = vec![false; n as usize];
        let own = OWN.map(|of| picture(last, &by_token, of));
        aim(&mut sum, "there", args.there * each, there);
        aim(&mut sum, "back", args.back * each, back);
        aim(&mut sum, "self", args.own, &own);
        if args.invariance > 0.0 {
            let (plain, shifted) = (anatomy.narrow(0, 0, 2 * n), anatomy.narrow(0, 2 * n, 2 * n));
            // The mean over a and b, twice, is the sum of both.
            sum.push("invariance", mse(&plain, &shifted) * (2.0 * args.invariance));
        }
        if args.agreement > 0.0 {
            let apart = |style: &Tensor| {
                let of =
                    |start: i64| scene.synth.broadcast(&anatomy.narrow(0, start, 2 * n), style);
                mse(&of(0), &of(2 * n))
            };
            sum.push("agreement", (apart(&plain) + apart(&shifted)) * args.agreement);
        }
        // What a change of style makes of pictures, and what it should make of them.
        let change = |anatomy: &Tensor, from: &Tensor, to: &Tensor, pictures: [&Tensor; 2]| {
            (scene.synth.broadcast(anatomy, &(to - from)), pictures[1] - pictures[0])
        };
        let stains = |of: &Tensor| [0, 2 * n].map(|start| of.narrow(0, start, 2 * n));
        let ([of, of_shifted], [before, after]) = (stains(&anatomy), stains(&targets));
        let changes = [
            change(&of, &plain, &shifted, [&before, &after]),
            change(&of_shifted, &shifted, &plain, [&after, &before]),
        ];
        aim(&mut sum, "change", args.change, &changes);
        if args.beside > 0.0 {
            let patch = scene.vit.geometry.patch_size() as i64;
            let (shown, kept) = self.draws.beside(&pixels, patch);
            let inputs = standardised(&shown, scene.normalisation);
            let (beside, _) = halves(&scene.vit.encode(&inputs), &scene.vit.geometry);
            let of = set(&anatomy, A);
            let apart = |style: &Tensor| {
                let [a, b] = [&of, &beside].map(|anatomy| scene.synth.broadcast(anatomy, style));
                ((a - b).square() * &kept).mean(Kind::Float)
            };
            let apart = apart(&set(&slides, A)) + apart(&set(&slides, GA));
            sum.push("beside", apart * args.beside);
        }
        sum.losses(args.detail, args.border, scene.vit.geometry.patch_size() as i64)
    }
}

/// Adds a term of pictures and targets, unless its weight is 0.
fn aim(sum: &mut Residuals, name: &'static str, weight: f64, pictures: &[(Tensor, Tensor)]) {
    if weight > 0.0 {
        let pictures: Vec<(&Tensor, &Tensor)> = pictures.iter().map(|(a, b)| (a, b)).collect();
        sum.aim(name, weight, &pictures);
    }
}

/// The random numbers of one step.
struct Draws<'a> {
    rng: &'a mut ChaCha8Rng,
    plan: &'a Plan,
    style_tokens: usize,
    device: Device,
}

impl Draws<'_> {
    /// Draws tokens for each of the four sets, i64 [n, style_tokens]. A transformed tile has the
    /// tissue of the tile.
    fn tokens(&mut self) -> [Tensor; 4] {
        let n = self.plan.transforms.len();
        std::array::from_fn(|set| {
            let first = if set == A || set == GA { 0 } else { n };
            let mut drawn = Vec::with_capacity(n * self.style_tokens);
            for tile in first..first + n {
                for _ in 0..self.style_tokens {
                    drawn.push(self.token(tile));
                }
            }
            Tensor::from_slice(&drawn)
                .view([n as i64, self.style_tokens as i64])
                .to_device(self.device)
        })
    }

    /// Draws one token of a tile, 1..=N.
    fn token(&mut self, tile: usize) -> i64 {
        let patches = &self.plan.tissue[tile];
        let tissue = patches.iter().filter(|&&is_tissue| is_tissue).count() as u64;
        if uniform(self.rng) < TISSUE_STYLE && tissue > 0 {
            let chosen = below(self.rng, tissue) as usize;
            let mut places = (1..).zip(patches).filter(|(_, is_tissue)| **is_tissue);
            return places.nth(chosen).expect("as many as were counted").0;
        }
        1 + below(self.rng, patches.len() as u64) as i64
    }

    /// Draws which pairs take the style of a slide instead of that of a token.
    fn by_slide(&mut self, chance: f64) -> Vec<bool> {
        self.plan.draws.iter().map(|_| uniform(self.rng) < chance).collect()
    }

    /// Puts glass, or the other tile of the pair, into a part of every Xa: tiles [2n, C, H, W] in
    /// 0..1 → the Xa [n, C, H, W], and the weight of each pixel [n, 1, H, W]: 0 where it is not
    /// Xa's, with a mean of 1. Parts end between patches.
    fn beside(&mut self, tiles: &Tensor, patch: i64) -> (Tensor, Tensor) {
        let (n, side) = (self.plan.stains.len() as i64, tiles.size()[2]);
        let kept = Tensor::ones([n, 1, side, side], (Kind::Float, self.device));
        let mut others = Vec::with_capacity(n as usize);
        for (pair, stain) in (0..n).zip(&self.plan.stains) {
            let grid = (side / patch) as u64;
            let cut = patch * (grid / 4 + below(self.rng, grid / 2 + 1)) as i64;
            let (start, length) = match below(self.rng, 2) {
                0 => (0, cut),
                _ => (cut, side - cut),
            };
            let axis = 1 + below(self.rng, 2) as i64;
            let _ = kept.get(pair).narrow(axis, start, length).fill_(0.0);
            others.push(if uniform(self.rng) < BESIDE_GLASS {
                let white = Tensor::from_slice(&stain.white).to_kind(Kind::Float);
                white.to_device(self.device).view([3, 1, 1]).expand_as(&tiles.get(pair))
            } else {
                tiles.get(n + pair)
            });
        }
        let shown = tiles.narrow(0, 0, n) * &kept + Tensor::stack(&others, 0) * (1.0 - &kept);
        let weight = &kept / kept.mean(Kind::Float).clamp_min(1e-3);
        (shown, weight)
    }

    /// Draws noise for some of the tiles [m, C, H, W] in 0..1.
    fn noise(&mut self, like: &Tensor) -> Tensor {
        let size = like.size();
        let each = size[1..].iter().product::<i64>() as usize;
        let mut values = Vec::with_capacity(size[0] as usize * each);
        for _ in 0..size[0] {
            if uniform(self.rng) < NOISE.0 {
                let deviation = NOISE.1 * uniform(self.rng);
                values.extend((0..each).map(|_| (deviation * normal(self.rng)) as f32));
            } else {
                values.resize(values.len() + each, 0.0);
            }
        }
        Tensor::from_slice(&values).view(size.as_slice()).to_device(self.device)
    }
}

/// Returns mean and standard deviation, f32 [1, 3, 1, 1] each.
fn constants(normalisation: &Normalisation, device: Device) -> [Tensor; 2] {
    [normalisation.mean, normalisation.std]
        .map(|values| Tensor::from_slice(&values).view([1, 3, 1, 1]).to_device(device))
}

/// Reverses the standardisation: f32 [B, C, H, W] → the same, 0..1.
pub(super) fn pixels(tiles: &Tensor, normalisation: &Normalisation) -> Tensor {
    let [mean, std] = constants(normalisation, tiles.device());
    (tiles * std + mean).clamp(0.0, 1.0).to_kind(Kind::Float)
}

/// Standardises pixels: f32 [B, C, H, W] in 0..1 → the same.
pub(super) fn standardised(pixels: &Tensor, normalisation: &Normalisation) -> Tensor {
    let [mean, std] = constants(normalisation, pixels.device());
    (pixels - mean) / std
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;
    use restain_method::field::FieldStain;

    use super::*;

    #[test]
    fn beside_a_part_of_a_tile_lies_glass_or_the_other_tile_and_it_weighs_nothing() {
        let white = [0.9, 0.8, 0.7];
        let stain = FieldStain {
            white,
            stains: [[1.0, 0.0, 0.0]; 3],
            amounts: [1.0; 2],
            knots: [[0.0; 9]; 3],
        };
        let plan = Plan { stains: vec![stain; 8], ..Plan::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut draws = Draws { rng: &mut rng, plan: &plan, style_tokens: 1, device: Device::Cpu };
        // Every Xa is .25, every Xb .5, of 4 × 4 patches of 2 × 2.
        let tiles = Tensor::cat(
            &[0.25, 0.5].map(|v| Tensor::full([8, 3, 8, 8], v, (Kind::Float, Device::Cpu))),
            0,
        );
        let (shown, weight) = draws.beside(&tiles, 2);
        assert!((weight.mean(Kind::Float).double_value(&[]) - 1.0).abs() < 1e-6);
        let mut beside = std::collections::BTreeSet::new();
        for (tile, y, x) in
            (0..8).flat_map(|t| (0..8).flat_map(move |y| (0..8).map(move |x| (t, y, x))))
        {
            let pixel = [0, 1, 2].map(|c| shown.double_value(&[tile, c, y, x]));
            let patch = weight.double_value(&[tile, 0, y / 2 * 2, x / 2 * 2]);
            assert_eq!(weight.double_value(&[tile, 0, y, x]), patch);
            match patch > 0.0 {
                true => assert_eq!(pixel, [0.25; 3]),
                false => drop(beside.insert(pixel.map(|v| (v * 100.0).round() as i64))),
            }
        }
        assert_eq!(Vec::from_iter(beside), [[50; 3], [90, 80, 70]]);
    }
}
