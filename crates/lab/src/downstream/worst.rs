//! Worst-case styles: the style near a drawn one for which the classifier's loss is highest.
//!
//! A variant is the tile plus a product that is linear in the style, so the gradient of the loss
//! with respect to the style is one more small product, and the encoder takes no part. With C the
//! covariance of the styles to draw from and g the gradient at a style, the style goes by
//! r·C·g / √(gᵀ·C·g): to where a linear loss is highest within r standard deviations. This is one
//! step of the Python package's `worst_case`.

use anyhow::Result;
use half::f16;
use tch::{Device, Kind, Tensor};

use crate::classifier::{Classifier, standardised};
use restain_method::Style;
use restain_method::glass::{LIMIT, shares};
use restain_method::synth::Synthesiser;
use restain_method::upsample::Upsampler;

/// Encodings and pixels of the tiles of a batch, which make variants that libtorch differentiates.
/// All f32 on one device.
pub(super) struct Batch {
    /// [B, N, 3, P, L]
    anatomy: Tensor,
    /// [B, N, 3, L, P]
    characteristics: Tensor,
    /// [B, 3, side, side], levels.
    tiles: Tensor,
    /// [B, 1, side, side]: how much a pixel is glass.
    glass: Tensor,
}

/// One tile of a batch.
pub(super) struct Tile<'a> {
    /// u8 [side, side, 3]
    pub pixels: &'a [u8],
    /// f16 [N, h] and [N, S].
    pub anatomy: &'a [f16],
    pub characteristics: &'a [f16],
}

/// The product as libtorch computes it, for gradients rather than for equal bytes.
pub(super) struct Worst {
    radius: f64,
    /// f32 [n, S]: the styles to draw from less their mean, over √(n − 1).
    deviations: Tensor,
    /// [3]: levels per unit of the product.
    scale: Tensor,
    /// i64 [H·W·3]: where a value of [H, W, 3] lies in the product [N, 3, P, P].
    order: Tensor,
    /// f32 [side, H]: resampling from the model's size to the tile's.
    resampling: Tensor,
    /// H, L and P.
    sizes: [i64; 3],
    side: i64,
    device: Device,
}

impl Worst {
    /// Prepares the search around `styles`, at least one, for tiles of `side` pixels.
    pub(super) fn new(
        synth: &Synthesiser,
        upsampler: &Upsampler,
        styles: &[&Style],
        (side, radius): (usize, f64),
        device: Device,
    ) -> Self {
        let geometry = synth.geometry();
        let [image, rank, patch] = [geometry.image_size(), geometry.rank(), geometry.patch_size()];
        let mut order = vec![0; geometry.tile_bytes()];
        for n in 0..geometry.patches() {
            let (top, left) = (n / geometry.grid() * patch, n % geometry.grid() * patch);
            for index in 0..geometry.patch_values() {
                let (row, column, channel) = synth.pixel_order().place(patch, index);
                let pixel = (top + row) * image + left + column;
                order[3 * pixel + channel] = (n * geometry.patch_values() + index) as i64;
            }
        }
        let flat: Vec<f32> = styles.iter().flat_map(|style| style.0.iter().copied()).collect();
        let styles = Tensor::from_slice(&flat).reshape([styles.len() as i64, -1]);
        let mean = styles.mean_dim(0, true, Kind::Float);
        let share = ((styles.size()[0] - 1).max(1) as f64).sqrt();
        let on = |tensor: Tensor| tensor.to_device(device);
        Self {
            radius,
            deviations: on((styles - mean) / share),
            scale: on(Tensor::from_slice(&synth.normalisation().to_byte_scale().0)),
            order: on(Tensor::from_slice(&order)),
            resampling: on(
                Tensor::from_slice(&upsampler.columns()).reshape([side as i64, image as i64])
            ),
            sizes: [image, rank, patch].map(|size| size as i64),
            side: side as i64,
            device,
        }
    }

    /// Puts the tiles of a batch on the device.
    pub(super) fn batch(&self, tiles: &[Tile]) -> Batch {
        let [image, rank, patch] = self.sizes;
        let (count, patches) = (tiles.len() as i64, (image / patch).pow(2));
        let stacked = |of: &dyn Fn(&Tile) -> Vec<f32>, shape: &[i64]| {
            let numbers: Vec<f32> = tiles.iter().flat_map(of).collect();
            Tensor::from_slice(&numbers).to_device(self.device).reshape(shape)
        };
        let wide = |half: &[f16]| half.iter().map(|value| value.to_f32()).collect();
        let levels = |tile: &Tile| tile.pixels.iter().map(|&level| f32::from(level)).collect();
        let square = [count, self.side, self.side, 3];
        Batch {
            anatomy: stacked(&|tile| wide(tile.anatomy), &[count, -1, 3, patch, rank]),
            characteristics: stacked(
                &|tile| wide(tile.characteristics),
                &[count, patches, self.deviations.size()[1]],
            ),
            tiles: stacked(&levels, &square).permute([0, 3, 1, 2]),
            glass: stacked(&|tile| shares(tile.pixels), &[count, 1, self.side, self.side]),
        }
    }

    /// Computes the variants of a batch before they are rounded: styles f32 [B, S] → levels f32 [B,
    /// 3, side, side].
    pub(super) fn variants(&self, batch: &Batch, styles: &Tensor) -> Tensor {
        let [image, rank, patch] = self.sizes;
        let count = styles.size()[0];
        let difference = styles.unsqueeze(1) - &batch.characteristics;
        let (half, length) = (3 * rank * patch, styles.size()[1]);
        let right = difference.narrow(2, 0, half).reshape([count, -1, 3, rank, patch]);
        let product = batch.anatomy.matmul(&right);
        let product = match length - half {
            0 => product,
            bias => {
                let bias = difference.narrow(2, half, bias);
                product + bias.reshape([count, -1, 3, 1, patch])
            }
        };
        let change = product.reshape([count, -1]).index_select(1, &self.order);
        let change = change.reshape([count, image, image, 3]) * &self.scale;
        let change = change.permute([0, 3, 1, 2]);
        let change = self.resampling.matmul(&change).matmul(&self.resampling.transpose(0, 1));
        let change = (&batch.tiles + change).clamp(0.0, 255.0) - &batch.tiles;
        let limit = f64::from(LIMIT);
        let kept = &batch.glass * change.clamp(-limit, limit) + (1.0 - &batch.glass) * change;
        &batch.tiles + kept
    }

    /// Returns the styles near `start`, one for each tile, for which the loss of the classifier is
    /// highest. It is in evaluation mode: no tile's style depends on the others of the batch, and
    /// running means are left alone. Where the gradient is zero the style stays where it is.
    ///
    /// # Errors
    /// If libtorch cannot copy the result.
    pub(super) fn styles(
        &self,
        classifier: &Classifier,
        batch: &Batch,
        labels: &[i64],
        start: &[&Style],
    ) -> Result<Vec<Style>> {
        let flat: Vec<f32> = start.iter().flat_map(|style| style.0.iter().copied()).collect();
        let start = Tensor::from_slice(&flat).to_device(self.device);
        let start = start.reshape([labels.len() as i64, -1]).set_requires_grad(true);
        let images = standardised(&self.variants(batch, &start));
        let labels = Tensor::from_slice(labels).to_device(self.device);
        let loss = classifier.logits(&images, false).cross_entropy_for_logits(&labels);
        let gradients = Tensor::run_backward(&[loss], &[&start], false, false);
        let found = tch::no_grad(|| start.detach() + self.step(&gradients[0]));
        let half = found.size()[1] as usize;
        let found = Vec::<f32>::try_from(found.to_device(Device::Cpu).reshape([-1]))?;
        Ok(found.chunks_exact(half).map(|style| Style(style.to_vec())).collect())
    }

    /// r·C·g / √(gᵀ·C·g) of gradients f32 [B, S].
    fn step(&self, gradients: &Tensor) -> Tensor {
        let along = gradients.matmul(&self.deviations.transpose(0, 1));
        let length = along.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
        let usable = length.gt(0.0).logical_and(&length.isfinite());
        let direction = (along / length).where_self(&usable, &Tensor::from(0f32));
        self.radius * direction.matmul(&self.deviations)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::classifier::Architecture;
    use restain_data::{below, normal};
    use restain_method::geometry::{Geometry, GeometrySpec};
    use restain_method::glass::keep_glass;
    use restain_method::upsample::UpsampleScratch;
    use restain_method::{Normalisation, PixelOrder};

    const HALF: usize = 2 * 3 * 4;

    struct Example {
        synth: Synthesiser,
        upsampler: Upsampler,
        pixels: Vec<Vec<u8>>,
        halves: Vec<[Vec<f16>; 2]>,
        styles: Vec<Style>,
        side: usize,
    }

    impl Example {
        /// Two tiles of `side` pixels, part of them glass, for a model of 16 px, and five styles.
        fn new(side: usize, order: PixelOrder, style_bias: bool) -> Self {
            let spec = GeometrySpec {
                image_size: 16,
                in_channels: 3,
                patch_size: 4,
                embed_dim: 2 * HALF,
                depth: 1,
                num_heads: 1,
                mlp_ratio: 1.0,
                style_bias,
            };
            let geometry = Geometry::new(spec).unwrap();
            let scale = Normalisation::new([0.5; 3], [0.1, 0.2, 0.15]).unwrap();
            let rng = &mut ChaCha8Rng::seed_from_u64(7);
            let numbers = |count: usize, rng: &mut _| -> Vec<f32> {
                (0..count).map(|_| normal(rng) as f32).collect()
            };
            let part = |count: usize, rng: &mut _| -> Vec<f16> {
                numbers(count, rng).into_iter().map(f16::from_f32).collect()
            };
            let counts = [geometry.tile_anatomy(), geometry.tile_characteristics()];
            let halves = [0; 2].map(|_| counts.map(|count| part(count, rng))).to_vec();
            let styles = [0; 5].map(|_| Style(numbers(geometry.style_len(), rng))).to_vec();
            let tile = |rng: &mut _| {
                let level = |n: usize, rng: &mut _| match n % 5 {
                    0 => 243,
                    _ => 60 + below(rng, 150) as u8,
                };
                (0..side * side).flat_map(|n| [0; 3].map(|_| level(n, rng))).collect()
            };
            let pixels = [0; 2].map(|_| tile(rng)).to_vec();
            let upsampler = Upsampler::new((16, 16), (side, side));
            let synth = Synthesiser::new(geometry, order, scale);
            Self { synth, upsampler, pixels, halves, styles, side }
        }

        fn worst(&self, radius: f64) -> Worst {
            let styles: Vec<&Style> = self.styles.iter().collect();
            Worst::new(&self.synth, &self.upsampler, &styles, (self.side, radius), Device::Cpu)
        }

        fn batch(&self, worst: &Worst) -> Batch {
            let pairs = self.pixels.iter().zip(&self.halves);
            let tiles = pairs.map(|(pixels, [anatomy, characteristics])| Tile {
                pixels,
                anatomy,
                characteristics,
            });
            worst.batch(&tiles.collect::<Vec<_>>())
        }

        fn served(&self, tile: usize, style: &Style) -> Vec<u8> {
            let [anatomy, characteristics] = &self.halves[tile];
            let mut difference = vec![0.0; characteristics.len()];
            let mut change = vec![0.0; self.synth.geometry().tile_bytes()];
            let mut out = vec![0; self.pixels[tile].len()];
            self.synth.difference_into(characteristics, &style.0, 1.0, &mut difference);
            self.synth.change(anatomy, &difference, &mut self.synth.scratch(), &mut change);
            let scratch = &mut UpsampleScratch::default();
            self.upsampler.add(&change, &self.pixels[tile], scratch, &mut out);
            keep_glass(&self.pixels[tile], &mut out);
            out
        }
    }

    fn rows(styles: &[&Style]) -> Tensor {
        let flat: Vec<f32> = styles.iter().flat_map(|style| style.0.iter().copied()).collect();
        Tensor::from_slice(&flat).reshape([styles.len() as i64, -1])
    }

    #[test]
    fn variants_are_those_that_are_served_but_for_rounding() {
        for (side, order, style_bias) in [
            (16, PixelOrder::Planar, false),
            (16, PixelOrder::Planar, true),
            (16, PixelOrder::Interleaved, false),
            (16, PixelOrder::Interleaved, true),
            (11, PixelOrder::Planar, true),
        ] {
            let example = Example::new(side, order, style_bias);
            let worst = example.worst(1.0);
            let styles = [&example.styles[0], &example.styles[3]];
            let levels = worst.variants(&example.batch(&worst), &rows(&styles));
            for (tile, style) in styles.into_iter().enumerate() {
                let levels = levels.get(tile as i64).permute([1, 2, 0]).reshape([-1]);
                let levels = Vec::<f32>::try_from(levels).unwrap();
                let served = example.served(tile, style);
                assert_ne!(served, example.pixels[tile]);
                for (level, served) in levels.iter().zip(served) {
                    assert!((level - f32::from(served)).abs() < 1.01, "{level} for {served}");
                }
            }
        }
    }

    #[test]
    fn the_worst_style_lies_on_the_ball_where_the_loss_grows_most() {
        let example = Example::new(16, PixelOrder::Planar, false);
        let worst = example.worst(0.01);
        let (batch, start) = (example.batch(&worst), [&example.styles[1], &example.styles[4]]);
        let classifier = Classifier::init(Architecture::Small, 2, 1, Device::Cpu);
        let found = worst.styles(&classifier, &batch, &[0, 1], &start).unwrap();
        assert!(classifier.parameters().iter().all(|(_, weight)| !weight.grad().defined()));

        let losses = |styles: &Tensor| -> Vec<f64> {
            let logits = classifier.logits(&standardised(&worst.variants(&batch, styles)), false);
            let of = |tile: i64| -logits.log_softmax(-1, Kind::Double).double_value(&[tile, tile]);
            vec![of(0), of(1)]
        };
        let offset = rows(&found.iter().collect::<Vec<_>>()) - rows(&start);
        // Coordinates in the bank's standard deviations: their length is the radius.
        let lengths = offset.matmul(&worst.deviations.pinverse(1e-4));
        let lengths = lengths.norm_scalaropt_dim(2.0, [1i64].as_slice(), false);
        assert!((lengths - 0.01).abs().max().double_value(&[]) < 1e-4);
        let [from, to] = [rows(&start), rows(&start) + &offset].map(|styles| losses(&styles));
        let rng = &mut ChaCha8Rng::seed_from_u64(2);
        for _ in 0..30 {
            let weights: Vec<f32> = (0..10).map(|_| normal(rng) as f32).collect();
            let any = worst.step(
                &Tensor::from_slice(&weights)
                    .reshape([2, 5])
                    .matmul(&worst.deviations.pinverse(1e-4).transpose(0, 1)),
            );
            let other = losses(&(rows(&start) + any));
            for tile in 0..2 {
                assert!(to[tile] > from[tile] && other[tile] < to[tile] + 1e-6, "{other:?}");
            }
        }
    }

    #[test]
    fn a_single_style_and_a_radius_of_nought_leave_styles_as_they_are() {
        let mut example = Example::new(16, PixelOrder::Planar, false);
        let classifier = Classifier::init(Architecture::Small, 2, 1, Device::Cpu);
        let found = |example: &Example, radius: f64| {
            let (worst, start) = (example.worst(radius), [&example.styles[0]; 2]);
            let batch = example.batch(&worst);
            assert_eq!(
                worst.styles(&classifier, &batch, &[0, 1], &start).unwrap(),
                [example.styles[0].clone(), example.styles[0].clone()]
            );
        };
        found(&example, 0.0);
        example.styles.truncate(1);
        found(&example, 1.0);
    }
}
