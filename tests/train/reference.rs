//! The trainer against vectors computed with the published code (float32, CPU).
//!
//! The full set lies outside the repository; without it these tests say so and pass.

use std::path::PathBuf;

use restain::bundle::Weights;
use restain::method::geometry::GeometrySpec;
use restain::method::{Geometry, PixelOrder};
use restain::train::adamw::{AdamW, AdamWConfig};
use restain::train::losses::{Losses, Mix, published};
use restain::train::mixing::{Synthesiser, halves};
use restain::train::vit::Vit;
use tch::{Device, Kind, Tensor};

/// `Some` folder of the published vectors, or `None` after saying that they are not here.
fn reference() -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/tiny");
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("SKIPPED: no published vectors in {}", dir.display());
    None
}

struct Vectors {
    vit: Vit,
    synth: Synthesiser,
    mixes: Vec<Mix>,
    tensors: Vec<(String, Tensor)>,
}

impl Vectors {
    fn open() -> Option<Self> {
        let dir = reference()?;
        let spec =
            GeometrySpec { image_size: 32, in_channels: 3, patch_size: 8, embed_dim: 96, depth: 2, num_heads: 4, mlp_ratio: 4.0 };
        let geometry = Geometry::new(spec).unwrap();
        let weights: Weights = restain::train::import::read_checkpoint(&dir.join("checkpoint_best.pth")).unwrap();
        let tensors = Tensor::read_safetensors(dir.join("vectors.safetensors")).unwrap();
        let integers = |name: &str| Vec::<i64>::try_from(find(&tensors, name)).unwrap();
        let mixes = integers("target_sample").into_iter().zip(integers("target_token")).map(|(sample, token)| Mix { sample, token });
        Some(Self {
            vit: Vit::from_weights(geometry, &weights, Device::Cpu, Kind::Float).unwrap(),
            synth: Synthesiser { geometry, pixel_order: PixelOrder::Interleaved },
            mixes: mixes.collect(),
            tensors,
        })
    }

    fn get(&self, name: &str) -> Tensor {
        find(&self.tensors, name)
    }

    fn losses(&self) -> Losses {
        published(&self.vit, &self.synth, &self.get("x"), &self.mixes)
    }
}

fn find(tensors: &[(String, Tensor)], name: &str) -> Tensor {
    tensors.iter().find(|(held, _)| held == name).unwrap_or_else(|| panic!("no vector {name}")).1.shallow_clone()
}

/// Largest difference, relative to the largest magnitude expected.
fn relative(found: &Tensor, expected: &Tensor) -> f64 {
    let largest = expected.abs().max().double_value(&[]).max(1e-12);
    (found.detach() - expected).abs().max().double_value(&[]) / largest
}

#[test]
fn latents_reconstruction_and_variants_are_the_published_codes() {
    let Some(vectors) = Vectors::open() else { return };
    let z = vectors.vit.encode(&vectors.get("x"));
    assert!(relative(&z, &vectors.get("z")) < 1e-4);
    let (anatomy, characteristics) = halves(&z, &vectors.vit.geometry);
    assert!(relative(&vectors.synth.aligned(&anatomy, &characteristics), &vectors.get("recon")) < 1e-4);
    for (k, mix) in vectors.mixes.iter().enumerate() {
        let style = characteristics.get(mix.sample).get(mix.token).unsqueeze(0).expand([z.size()[0], -1], false);
        assert!(relative(&vectors.synth.broadcast(&anatomy, &style), &vectors.get("synth").get(k as i64)) < 1e-4, "mix {k}");
    }
}

#[test]
fn losses_and_every_gradient_are_the_published_codes() {
    let Some(vectors) = Vectors::open() else { return };
    let losses = vectors.losses();
    for ((name, found), key) in losses.values().into_iter().zip(["loss_recon", "loss_anatomy", "loss_characteristics"]) {
        let expected = vectors.get(key).double_value(&[0]);
        assert!((found - expected).abs() <= 1e-3 * expected.abs(), "{name}: {found}, published {expected}");
    }
    losses.total().backward();
    for (name, parameter) in vectors.vit.parameters() {
        let difference = relative(&parameter.grad(), &vectors.get(&format!("grad.{name}")));
        assert!(difference < 1e-3, "the gradient of {name} is {difference:.1e} away");
    }
}

#[test]
fn five_steps_of_adamw_lower_the_losses_as_the_published_code_does() {
    let Some(vectors) = Vectors::open() else { return };
    let mut optimiser = AdamW::new(AdamWConfig::default(), vectors.vit.parameters());
    let expected = vectors.get("loss_after_adamw_steps");
    for step in 0..5 {
        vectors.losses().total().backward();
        optimiser.step(vectors.vit.parameters(), 1e-3);
        for (column, (name, found)) in vectors.losses().values().into_iter().enumerate() {
            let published = expected.double_value(&[step, column as i64]);
            assert!((found - published).abs() <= 1e-3 * published.abs(), "{name} after step {step}: {found}, published {published}");
        }
    }
}
