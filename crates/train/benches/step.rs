//! Training steps on demand, for train_step.py: one step for every line of input, answered with its
//! loss.
//!
//!     train_step FILE GEOMETRY RECIPE PRECISION DEVICE
//!
//! FILE holds weights, tiles and everything that a step draws, so that PyTorch computes the very
//! same thing; GEOMETRY is image size, patch size, embedding dimension, depth and heads, separated
//! by commas. The trainer without its data loader: losses, gradients, AdamW. A step is over when
//! its device has done all of it.

#![expect(clippy::disallowed_methods, reason = "a bench is a program with arguments of its own")]

use std::io::BufRead;

use restain_bundle::{Tensor as WeightTensor, Weights, layout};
use restain_method::geometry::GeometrySpec;
use restain_method::{Geometry, PixelOrder};
use restain_torch::adamw::{AdamW, AdamWConfig};
use restain_torch::device::DeviceChoice;
use restain_train::model::mixing::Synthesiser;
use restain_train::model::vit::Vit;
use restain_train::objective::losses::{Losses, Mix, Objective, Shift, TermWeights};
use tch::{Cuda, Device, Kind, Tensor};

struct Step {
    vit: Vit,
    synth: Synthesiser,
    optimiser: AdamW,
    drawn: Vec<(String, Tensor)>,
    mixes: Vec<Mix>,
    cross: bool,
}

impl Step {
    fn open(arguments: &[String]) -> Self {
        let [file, geometry, recipe, precision, device, ..] = arguments else {
            panic!("FILE GEOMETRY RECIPE PRECISION DEVICE")
        };
        let device = device
            .parse::<DeviceChoice>()
            .expect("a device")
            .open(0)
            .expect("a device that is there");
        let numbers: Vec<usize> =
            geometry.split(',').map(|number| number.parse().expect("a number")).collect();
        let [image_size, patch_size, embed_dim, depth, num_heads] = numbers[..] else {
            panic!("five numbers")
        };
        let spec = GeometrySpec {
            image_size,
            in_channels: 3,
            patch_size,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio: 4.0,
            style_bias: false,
        };
        let geometry = Geometry::new(spec).expect("a geometry");
        let drawn = Tensor::read_safetensors(file).expect("what train_step.py wrote");
        let weights = layout(&geometry).into_iter().map(|(name, shape)| {
            let data = Vec::<f32>::try_from(find(&drawn, &name).reshape([-1])).expect("f32");
            (name, WeightTensor { shape, data })
        });
        let weights = Weights { tensors: weights.collect() };
        let kind = if precision == "bf16" { Kind::BFloat16 } else { Kind::Float };
        let vit =
            Vit::from_weights(geometry, &weights, device, kind).expect("the geometry's weights");
        let vit =
            vit.checkpointing(arguments.iter().any(|word| word == "--gradient-checkpointing"));
        let drawn: Vec<_> =
            drawn.into_iter().map(|(name, tensor)| (name, tensor.to_device(device))).collect();
        let integers = |name: &str| Vec::<i64>::try_from(find(&drawn, name)).expect("i64");
        let mixes = integers("mix_sample")
            .into_iter()
            .zip(integers("mix_token"))
            .map(|(sample, token)| Mix { sample, token })
            .collect();
        Self {
            optimiser: AdamW::new(AdamWConfig::default(), vit.parameters()),
            synth: Synthesiser { geometry, pixel_order: PixelOrder::Planar },
            cross: recipe == "cross",
            vit,
            drawn,
            mixes,
        }
    }

    /// One update; the loss before it.
    fn take(&mut self) -> f64 {
        let get = |name: &str| find(&self.drawn, name);
        let tiles = get("tiles");
        let objective = Objective {
            vit: &self.vit,
            synth: &self.synth,
            weights: &TermWeights::first(),
            stop_gradient: false,
        };
        let losses: Losses = if self.cross {
            let tokens = |name: &str| get(name).unsqueeze(-1);
            let (shifted_tokens, own_tokens, other_tokens) =
                (tokens("shifted_token"), tokens("own_token"), tokens("own_token"));
            // The term `match` has no weight: what it aims at is not looked at.
            let (other, matched) = (get("other"), tiles.shallow_clone());
            objective.cross(
                &tiles,
                &self.mixes,
                &Shift {
                    tiles: get("shifted"),
                    shifted_tokens,
                    own_tokens,
                    other,
                    other_tokens,
                    matched,
                },
            )
        } else {
            objective.published(&tiles, &self.mixes)
        };
        let total = losses.total();
        let value = total.double_value(&[]);
        self.vit.backward(&total);
        self.optimiser.step(self.vit.parameters(), 1e-3).expect("a step");
        if let Device::Cuda(index) = self.vit.device() {
            Cuda::synchronize(index as i64);
        }
        value
    }
}

fn find(tensors: &[(String, Tensor)], name: &str) -> Tensor {
    tensors
        .iter()
        .find(|(held, _)| held == name)
        .unwrap_or_else(|| panic!("no tensor {name}"))
        .1
        .shallow_clone()
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let mut step = Step::open(&arguments);
    for line in std::io::stdin().lock().lines() {
        line.expect("a line");
        println!("{}", step.take());
    }
}
