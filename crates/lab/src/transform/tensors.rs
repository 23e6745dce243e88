//! Transforms of stain and scanner on batches of tiles.

use tch::{Device, Kind, Tensor};

use super::{KNOTS, Transform};
use crate::stain::blur;

/// The darkest pixel that has a finite density.
const DARKEST: f64 = 1.0 / 255.0;

/// One transform for each tile of a batch.
pub struct Transforms {
    white: Tensor,
    /// `[B, 3, KNOTS]`.
    knots: Tensor,
    slopes: Tensor,
    /// `[B, 3, 3]`.
    mixing: Tensor,
    new_white: Tensor,
    gamma: Tensor,
    focus: Tensor,
}

impl Transforms {
    /// Copies the numbers of transforms, one for each tile of a batch, to a device.
    pub fn new<'a>(transforms: impl IntoIterator<Item = &'a Transform>, device: Device) -> Self {
        let transforms: Vec<&Transform> = transforms.into_iter().collect();
        let tensor = |shape: &[i64], of: &dyn Fn(&Transform) -> Vec<f64>| {
            let values: Vec<f32> =
                transforms.iter().flat_map(|t| of(t)).map(|value| value as f32).collect();
            let shape = [&[transforms.len() as i64], shape].concat();
            Tensor::from_slice(&values).view(shape.as_slice()).to_device(device)
        };
        let channels = |of: &dyn Fn(&Transform) -> Vec<f64>| tensor(&[3, 1, 1], of);
        let curves = [3, KNOTS as i64];
        Self {
            white: channels(&|t| t.white.to_vec()),
            knots: tensor(&curves, &|t| t.knots.concat()),
            slopes: tensor(&curves, &|t| t.slopes.concat()),
            mixing: tensor(&[3, 3], &|t| t.mixing.concat()),
            new_white: channels(&|t| t.new_white.to_vec()),
            gamma: channels(&|t| t.gamma.to_vec()),
            focus: tensor(&[1, 1, 1], &|t| vec![t.focus]),
        }
    }

    /// Transforms pixels in 0..1, `[B, 3, H, W]` f32 → the same.
    pub fn apply(&self, pixels: &Tensor) -> Tensor {
        let density = -(pixels.clamp_min(DARKEST) / &self.white).log();
        let curved = self.curved(&density.clamp_min(0.0));
        let mixed = Tensor::einsum("bchw,bcd->bdhw", &[&curved, &self.mixing], None::<i64>);
        // Brighter than white is as much brighter as before.
        let density = mixed + density.clamp_max(0.0);
        let made = (&self.new_white * (-density).exp()).clamp(DARKEST, 1.0).pow(&self.gamma);
        (&made + (blur(&made, 1.0) - &made) * &self.focus).clamp(0.0, 1.0)
    }

    /// Maps each channel through its curve.
    fn curved(&self, density: &Tensor) -> Tensor {
        let at = |of: &Tensor, k: usize| of.select(2, k as i64).unsqueeze(-1).unsqueeze(-1);
        (0..KNOTS)
            .map(|k| {
                let (from, slope) = (at(&self.knots, k), at(&self.slopes, k));
                let above = (density - &from).clamp_min(0.0);
                let part = match k + 1 < KNOTS {
                    true => above.minimum(&(at(&self.knots, k + 1) - from)),
                    false => above,
                };
                part * slope
            })
            .reduce(|a, b| a + b)
            .expect("a curve has knots")
    }
}

/// Computes the luminance `[B, H, W]` of pixels `[B, 3, H, W]` (Rec. 601).
pub fn luminance(pixels: &Tensor) -> Tensor {
    let weights = Tensor::from_slice(&[0.299f32, 0.587, 0.114]).to_device(pixels.device());
    Tensor::einsum("c,bchw->bhw", &[&weights, pixels], None::<i64>).to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::transform::Ranges;
    use restain_method::field::{FieldStain, unit};

    fn field(h: [f64; 3], e: [f64; 3], white: [f64; 3], strength: f64) -> FieldStain {
        let (h, e) = (unit(h), unit(e));
        let cross = |a: [f64; 3], b: [f64; 3]| {
            [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
        };
        let knots = std::array::from_fn(|c| {
            std::array::from_fn(|k| strength * (0.1 + 0.15 * k as f64) * (1.0 + 0.1 * c as f64))
        });
        FieldStain {
            white,
            stains: [h, e, unit(cross(h, e))],
            amounts: [strength, 1.2 * strength],
            knots,
        }
    }

    fn fields() -> [FieldStain; 2] {
        [
            field([0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.95, 0.93, 0.96], 1.0),
            field([0.55, 0.75, 0.36], [0.2, 0.9, 0.38], [0.9, 0.88, 0.92], 0.7),
        ]
    }

    type Draw = fn(&FieldStain, &FieldStain, &Ranges, &mut ChaCha8Rng) -> Transform;

    const FAMILIES: [(Draw, fn() -> Ranges); 2] = [
        (Transform::beer_lambert, Ranges::beer_lambert),
        (Transform::quantiles, Ranges::quantiles),
    ];

    /// Pixels from nearly black to nearly white, `[n, 3, 8, 8]`.
    fn pixels(n: i64) -> Tensor {
        tch::manual_seed(4);
        Tensor::rand([n, 3, 8, 8], (Kind::Float, Device::Cpu)) * 0.9 + 0.03
    }

    fn farthest(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn no_way_to_the_other_field_and_nothing_at_random_is_the_identity() {
        let [from, to] = fields();
        let x = pixels(2);
        for (draw, _) in FAMILIES {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let one = draw(&from, &to, &Ranges::exactly(0.0), &mut rng);
            let two = draw(&from, &from, &Ranges::exactly(1.0), &mut rng);
            let made = Transforms::new([&one, &two], Device::Cpu).apply(&x);
            assert!(farthest(&made, &x) < 1e-5, "{}", farthest(&made, &x));
        }
    }

    #[test]
    fn glass_becomes_the_new_white_whatever_is_drawn() {
        let [from, to] = fields();
        let glass = Tensor::from_slice(&from.white.map(|v| v as f32)).view([1, 3, 1, 1]);
        let glass = glass.expand([1, 3, 8, 8], false);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for (draw, ranges) in FAMILIES {
            for _ in 0..20 {
                let g = draw(&from, &to, &ranges(), &mut rng);
                let white: [f32; 3] =
                    std::array::from_fn(|c| g.new_white[c].powf(g.gamma[c]) as f32);
                let wanted = Tensor::from_slice(&white).view([1, 3, 1, 1]);
                let made = Transforms::new([&g], Device::Cpu).apply(&glass);
                assert!(farthest(&made, &wanted.expand_as(&glass)) < 1e-5);
            }
            let g = draw(&from, &to, &Ranges::exactly(1.0), &mut rng);
            assert!(g.new_white.iter().zip(to.white).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }

    #[test]
    fn all_the_way_gives_the_stains_the_amounts_and_the_quantiles_of_the_other_field() {
        let [from, to] = fields();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        // One pixel a stain, with the 99th percentile of that stain's amount.
        let pixel = |field: &FieldStain, stain: usize| -> Vec<f32> {
            (0..3)
                .map(|c| {
                    let od = field.amounts[stain] * field.stains[stain][c];
                    (field.white[c] * (-od).exp()) as f32
                })
                .collect()
        };
        let of = |field: &FieldStain| {
            let values = [pixel(field, 0), pixel(field, 1)].concat();
            Tensor::from_slice(&values).view([2, 3, 1, 1]).expand([2, 3, 8, 8], false).contiguous()
        };
        let g = Transform::beer_lambert(&from, &to, &Ranges::exactly(1.0), &mut rng);
        let made = Transforms::new([&g, &g], Device::Cpu).apply(&of(&from));
        assert!(farthest(&made, &of(&to)) < 1e-4, "{}", farthest(&made, &of(&to)));

        let g = Transform::quantiles(&from, &to, &Ranges::exactly(1.0), &mut rng);
        for k in 0..9 {
            let at = |field: &FieldStain| {
                let values: [f32; 3] =
                    std::array::from_fn(|c| (field.white[c] * (-field.knots[c][k]).exp()) as f32);
                Tensor::from_slice(&values).view([1, 3, 1, 1]).expand([1, 3, 8, 8], false)
            };
            let made = Transforms::new([&g], Device::Cpu).apply(&at(&from));
            assert!(farthest(&made, &at(&to)) < 1e-4, "knot {k}");
        }
    }

    #[test]
    fn a_tile_in_a_batch_is_transformed_as_it_is_alone_and_stays_a_picture() {
        let [from, to] = fields();
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let drawn: Vec<Transform> = (0..12)
            .map(|i| {
                let (draw, ranges) = FAMILIES[i % 2];
                draw(&from, &to, &ranges(), &mut rng)
            })
            .collect();
        let x = pixels(12);
        let together = Transforms::new(&drawn, Device::Cpu).apply(&x);
        assert!(together.min().double_value(&[]) >= 0.0);
        assert!(together.max().double_value(&[]) <= 1.0);
        for (i, g) in drawn.iter().enumerate() {
            let tile = x.narrow(0, i as i64, 1);
            let alone = Transforms::new([g], Device::Cpu).apply(&tile);
            assert!(farthest(&alone, &together.narrow(0, i as i64, 1)) < 1e-6);
            assert!(farthest(&alone, &tile) > 0.02, "it changes something");
        }
    }

    #[test]
    fn the_same_stream_draws_the_same_transform() {
        let [from, to] = fields();
        let draw = || {
            let mut rng = ChaCha8Rng::seed_from_u64(6);
            rng.set_stream(9);
            Transform::beer_lambert(&from, &to, &Ranges::beer_lambert(), &mut rng)
        };
        assert_eq!(draw(), draw());
    }
}
