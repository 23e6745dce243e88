//! The trainer against vectors that other implementations computed.
//!
//! `tests/fixtures/vectors-tiny.safetensors` comes from tools/reference_vectors.py, a second
//! implementation of the paper in PyTorch. `tests/fixtures/published` comes from the published code
//! itself. tests/fixtures/README.md says how to make both.

use std::path::Path;

use restain_bundle::{Tensor as WeightTensor, Weights, layout};
use restain_lab::stain::{color_matched, quantile_matched, stain_shift, toned};
use restain_method::geometry::GeometrySpec;
use restain_method::{Geometry, PixelOrder};
use restain_torch::adamw::{AdamW, AdamWConfig};
use restain_train::model::mixing::{Synthesiser, halves};
use restain_train::model::vit::Vit;
use restain_train::objective::losses::{Losses, Mix, Objective, Shift, TermWeights};
use restain_train::publish::import::read_checkpoint;
use tch::{Device, Kind, Tensor};

/// Named arrays, and the model that they belong to.
struct Vectors {
    geometry: Geometry,
    weights: Weights,
    tensors: Vec<(String, Tensor)>,
}

impl Vectors {
    /// The vectors of tools/reference_vectors.py.
    fn own() -> Self {
        let geometry = Geometry::new(GeometrySpec {
            image_size: 16,
            in_channels: 3,
            patch_size: 4,
            embed_dim: 48,
            depth: 1,
            num_heads: 4,
            mlp_ratio: 4.0,
            style_bias: false,
        });
        let geometry = geometry.unwrap();
        let tensors = read(
            &Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../tests/fixtures/vectors-tiny.safetensors"),
        );
        let weights = layout(&geometry).into_iter().map(|(name, shape)| {
            let data = Vec::<f32>::try_from(find(&tensors, &name).reshape([-1])).unwrap();
            (name, WeightTensor { shape, data })
        });
        Self { geometry, weights: Weights { tensors: weights.collect() }, tensors }
    }

    /// The vectors of the published code.
    fn published_code() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/published");
        let weights = read_checkpoint(&dir.join("checkpoint_best.pth")).unwrap();
        Self {
            geometry: weights.geometry(4, 32).unwrap(),
            weights,
            tensors: read(&dir.join("vectors.safetensors")),
        }
    }

    fn vit(&self) -> Vit {
        Vit::from_weights(self.geometry, &self.weights, Device::Cpu, Kind::Float).unwrap()
    }

    fn synth(&self, pixel_order: PixelOrder) -> Synthesiser {
        Synthesiser { geometry: self.geometry, pixel_order }
    }

    fn get(&self, name: &str) -> Tensor {
        find(&self.tensors, name)
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        Vec::try_from(self.get(name)).unwrap()
    }

    fn mixes(&self) -> Vec<Mix> {
        let both = self.integers("target_sample").into_iter().zip(self.integers("target_token"));
        both.map(|(sample, token)| Mix { sample, token }).collect()
    }

    fn shift(&self) -> Shift {
        let tokens = |name: &str| self.get(name).unsqueeze(-1);
        Shift {
            tiles: self.get("shifted"),
            shifted_tokens: tokens("shifted_token"),
            own_tokens: tokens("own_token"),
            other: self.get("other"),
            other_tokens: tokens("other_token"),
            matched: color_matched(&self.get("x"), &self.get("other")),
        }
    }

    /// Computes the losses that the fixture names `recipe`.
    fn losses(&self, vit: &Vit, synth: &Synthesiser, recipe: &str) -> Losses {
        let weights = match recipe {
            "match" => TermWeights { match_weight: 0.5, ..TermWeights::first() },
            "sharp" => TermWeights {
                match_weight: 0.5,
                detail_weight: 0.7,
                border_weight: 0.3,
                ..TermWeights::first()
            },
            _ => TermWeights::first(),
        };
        let objective = Objective { vit, synth, weights: &weights, stop_gradient: false };
        match recipe {
            "published" => objective.published(&self.get("x"), &self.mixes()),
            _ => objective.cross(&self.get("x"), &self.mixes(), &self.shift()),
        }
    }
}

fn read(path: &Path) -> Vec<(String, Tensor)> {
    Tensor::read_safetensors(path).unwrap()
}

fn find(tensors: &[(String, Tensor)], name: &str) -> Tensor {
    tensors
        .iter()
        .find(|(held, _)| held == name)
        .unwrap_or_else(|| panic!("no vector {name}"))
        .1
        .shallow_clone()
}

/// Largest difference, relative to the largest magnitude expected.
fn relative(found: &Tensor, expected: &Tensor) -> f64 {
    let largest = expected.abs().max().double_value(&[]).max(1e-12);
    (found.detach() - expected).abs().max().double_value(&[]) / largest
}

fn assert_latents_and_pixels(
    vectors: &Vectors,
    synth: &Synthesiser,
    reconstruction: &Tensor,
    variants: &Tensor,
) {
    let z = vectors.vit().encode(&vectors.get("x"));
    assert!(relative(&z, &vectors.get("z")) < 1e-4);
    let (anatomy, characteristics) = halves(&z, &vectors.geometry);
    assert!(relative(&synth.aligned(&anatomy, &characteristics), reconstruction) < 1e-4);
    for (k, mix) in vectors.mixes().iter().enumerate() {
        let style = characteristics
            .get(mix.sample)
            .get(mix.token)
            .unsqueeze(0)
            .expand([z.size()[0], -1], false);
        assert!(
            relative(&synth.broadcast(&anatomy, &style), &variants.get(k as i64)) < 1e-4,
            "mix {k}"
        );
    }
}

/// Loss values within 1e-3, and the gradient of every parameter of their sum.
fn assert_losses(vit: &Vit, losses: &Losses, expected: &[f64], gradient: impl Fn(&str) -> Tensor) {
    assert_eq!(losses.0.len(), expected.len());
    for ((name, found), expected) in losses.values().into_iter().zip(expected) {
        assert!(
            (found - expected).abs() <= 1e-3 * expected.abs(),
            "{name}: {found}, expected {expected}"
        );
    }
    losses.total().backward();
    for (name, parameter) in vit.parameters() {
        let difference = relative(&parameter.grad(), &gradient(name));
        assert!(difference < 1e-3, "the gradient of {name} is {difference:.1e} away");
    }
}

/// `expected` [5, 3]: the published losses after each of five steps of rate 1e-3 on one batch.
fn assert_five_steps(vectors: &Vectors, synth: &Synthesiser, expected: &Tensor) {
    let vit = vectors.vit();
    let mut optimiser = AdamW::new(AdamWConfig::default(), vit.parameters());
    let losses = || vectors.losses(&vit, synth, "published");
    for step in 0..5 {
        losses().total().backward();
        optimiser.step(vit.parameters(), 1e-3).unwrap();
        for (column, (name, found)) in losses().values().into_iter().enumerate() {
            let expected = expected.double_value(&[step, column as i64]);
            assert!(
                (found - expected).abs() <= 1e-3 * expected.abs(),
                "{name} after step {step}: {found}, expected {expected}"
            );
        }
    }
}

#[test]
fn latents_reconstructions_and_variants_agree_with_pytorch() {
    let vectors = Vectors::own();
    for order in [PixelOrder::Planar, PixelOrder::Interleaved] {
        let (reconstruction, variants) = (
            vectors.get(&format!("{order}.reconstruction")),
            vectors.get(&format!("{order}.variants")),
        );
        assert_latents_and_pixels(&vectors, &vectors.synth(order), &reconstruction, &variants);
    }
}

#[test]
fn losses_and_gradients_of_both_recipes_agree_with_pytorch() {
    let vectors = Vectors::own();
    for order in [PixelOrder::Planar, PixelOrder::Interleaved] {
        for recipe in ["published", "cross", "match", "sharp"] {
            let (vit, synth) = (vectors.vit(), vectors.synth(order));
            let losses = vectors.losses(&vit, &synth, recipe);
            let expected = Vec::<f64>::try_from(
                vectors.get(&format!("{order}.{recipe}.losses")).to_kind(Kind::Double),
            )
            .unwrap();
            assert_losses(&vit, &losses, &expected, |name| {
                vectors.get(&format!("{order}.{recipe}.grad.{name}"))
            });
        }
    }
}

#[test]
fn a_stain_shift_agrees_with_pytorch() {
    let vectors = Vectors::own();
    let shifted = stain_shift(
        &vectors.get("x"),
        &vectors.get("other"),
        &vectors.get("gain"),
        &vectors.get("offset"),
    );
    assert!(relative(&shifted, &vectors.get("shifted")) < 1e-5);
}

#[test]
fn quantile_matched_and_toned_tiles_agree_with_numpy() {
    let vectors = Vectors::own();
    let (x, other) = (vectors.get("x"), vectors.get("other"));
    assert!(relative(&quantile_matched(&x, &other), &vectors.get("quantile_matched")) < 1e-4);
    assert!(relative(&toned(&x, &other, 1.25, 1.0), &vectors.get("toned")) < 1e-4);
}

#[test]
fn five_steps_of_adamw_agree_with_pytorch() {
    let vectors = Vectors::own();
    assert_five_steps(
        &vectors,
        &vectors.synth(PixelOrder::Planar),
        &vectors.get("planar.published.losses_after_adamw_steps"),
    );
}

#[test]
fn latents_reconstruction_and_variants_agree_with_the_published_code() {
    let vectors = Vectors::published_code();
    let synth = vectors.synth(PixelOrder::Interleaved);
    assert_latents_and_pixels(&vectors, &synth, &vectors.get("recon"), &vectors.get("synth"));
}

#[test]
fn losses_and_every_gradient_agree_with_the_published_code() {
    let vectors = Vectors::published_code();
    let vit = vectors.vit();
    let losses = vectors.losses(&vit, &vectors.synth(PixelOrder::Interleaved), "published");
    let expected = ["loss_recon", "loss_anatomy", "loss_characteristics"]
        .map(|key| vectors.get(key).double_value(&[0]));
    assert_losses(&vit, &losses, &expected, |name| vectors.get(&format!("grad.{name}")));
}

#[test]
fn five_steps_of_adamw_agree_with_the_published_code() {
    let vectors = Vectors::published_code();
    assert_five_steps(
        &vectors,
        &vectors.synth(PixelOrder::Interleaved),
        &vectors.get("loss_after_adamw_steps"),
    );
}
