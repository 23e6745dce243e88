//! The Vision Transformer encoder in libtorch: the only part of the method with parameters.
//!
//! Patch embedding, a CLS token, fixed 2-D sin-cos positions, pre-norm blocks, and a final
//! LayerNorm. Parameters have the names of the published checkpoints. The forward pass casts the
//! operands of matrix products to the compute precision and keeps everything else in f32, because
//! `tch::autocast` has no effect on parameters held in Rust.

use std::cell::Cell;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::model::recompute::{Stages, Tape};
use restain_bundle::{STYLE_BIAS, Tensor as WeightTensor, Weights, layout};
use restain_method::Geometry;
use restain_method::positions::positions;

const LAYER_NORM_EPS: f64 = 1e-6;

/// An affine layer in PyTorch's layout: weight [out, in], bias [out].
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Multiplies and adds: x [.., in] in f32 or `kind` → [.., out] in `kind`.
    fn forward(&self, x: &Tensor, kind: Kind) -> Tensor {
        if kind == Kind::Float && x.device() == Device::Cpu && tch::utils::has_mkldnn() {
            // libtorch uses MKL for f32 products, which is slow on AMD processors; oneDNN takes
            // half as long there.
            return x
                .to_mkldnn()
                .mkldnn_linear(&self.weight, Some(&self.bias))
                .to_dense(None, false);
        }
        x.to_kind(kind).linear(&self.weight.to_kind(kind), Some(self.bias.to_kind(kind)))
    }
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Normalises: [.., E] f32 → the same shape.
    fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(
            [*self.weight.size().last().expect("a vector")],
            Some(&self.weight),
            Some(&self.bias),
            LAYER_NORM_EPS,
            true,
        )
    }
}

struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Block {
    /// Applies the block: x [B, T, E] f32 → the same shape.
    fn forward(&self, x: &Tensor, heads: i64, kind: Kind) -> Tensor {
        let x = x + self.attention(&self.norm1.forward(x), heads, kind).to_kind(Kind::Float);
        let hidden = self.fc1.forward(&self.norm2.forward(&x), kind).gelu("none");
        x + self.fc2.forward(&hidden, kind).to_kind(Kind::Float)
    }

    /// Computes softmax attention over all tokens: x [B, T, E] → [B, T, E] in `kind`.
    fn attention(&self, x: &Tensor, heads: i64, kind: Kind) -> Tensor {
        let (batch, tokens, embed) = x.size3().expect("three axes");
        let qkv = self
            .qkv
            .forward(x, kind)
            .view([batch, tokens, 3, heads, embed / heads])
            .permute([2, 0, 3, 1, 4]);
        // Not `get` three times: its backward pass would fill three tensors of the size of qkv with
        // zeros.
        let [q, k, v] = <[Tensor; 3]>::try_from(qkv.unbind(0)).expect("three along the first axis");
        let mixed = if x.device().is_cuda() || kind == Kind::Float {
            Tensor::scaled_dot_product_attention(
                &q,
                &k,
                &v,
                None::<Tensor>,
                0.0,
                false,
                None,
                false,
            )
        } else {
            // On CPUs the fused kernel takes 2.5 to 3.5 times as long as separate products in bf16,
            // and 0.9 times in f32.
            let scale = ((embed / heads) as f64).powf(-0.5);
            (q * scale).matmul(&k.transpose(-2, -1)).softmax(-1, kind).matmul(&v)
        };
        self.proj.forward(&mixed.transpose(1, 2).reshape([batch, tokens, embed]), kind)
    }
}

/// The encoder with its parameters, all f32 on one device.
pub struct Vit {
    /// Sizes of the model.
    pub geometry: Geometry,
    parameters: Vec<(String, Tensor)>,
    cls_token: Tensor,
    patch_embed: Linear,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    /// Characteristics [.., h] → their bias [.., C·P], if the model has one.
    style_bias: Option<Linear>,
    precision: Kind,
    /// With gradient checkpointing: the passes that `backward` recomputes.
    tape: Option<Tape>,
    /// Tiles encoded so far.
    encoded: Cell<u64>,
}

impl Vit {
    /// Initialises weights as the published code does: Xavier-uniform matrices, zero biases, a CLS
    /// token of standard deviation 0.02, a style bias of zero. Products are computed in
    /// `precision`. The same seed gives the same weights, unless another thread uses libtorch's
    /// generator at the same time.
    ///
    /// # Errors
    /// If libtorch cannot use the device.
    pub fn init(geometry: Geometry, seed: u64, device: Device, precision: Kind) -> Result<Self> {
        tch::manual_seed(seed as i64);
        let parameters = layout(&geometry).into_iter().map(|(name, shape)| {
            let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
            let tensor = initial(&name, &shape);
            (name, tensor)
        });
        Self::assemble(geometry, parameters.collect(), device, precision)
    }

    /// Uses given weights.
    ///
    /// # Errors
    /// If a name or a shape is not that of the geometry.
    pub fn from_weights(
        geometry: Geometry,
        weights: &Weights,
        device: Device,
        precision: Kind,
    ) -> Result<Self> {
        weights.check(&geometry)?;
        let parameters = weights.tensors.iter().map(|(name, held)| {
            let shape: Vec<i64> = held.shape.iter().map(|&n| n as i64).collect();
            (name.clone(), Tensor::from_slice(&held.data).view(shape.as_slice()))
        });
        Self::assemble(geometry, parameters.collect(), device, precision)
    }

    fn assemble(
        geometry: Geometry,
        parameters: Vec<(String, Tensor)>,
        device: Device,
        precision: Kind,
    ) -> Result<Self> {
        let parameters: Vec<(String, Tensor)> = parameters
            .into_iter()
            .map(|(name, tensor)| (name, tensor.to_device(device).set_requires_grad(true)))
            .collect();
        let find = |name: String| -> Tensor {
            parameters
                .iter()
                .find(|(held, _)| *held == name)
                .map(|(_, tensor)| tensor.shallow_clone())
                .expect("the layout lists every key")
        };
        let linear = |prefix: &str| Linear {
            weight: find(format!("{prefix}.weight")),
            bias: find(format!("{prefix}.bias")),
        };
        let layer_norm = |prefix: &str| LayerNorm {
            weight: find(format!("{prefix}.weight")),
            bias: find(format!("{prefix}.bias")),
        };
        let blocks = (0..geometry.depth()).map(|i| {
            let part = |name: &str| format!("encoder.blocks.{i}.{name}");
            Block {
                norm1: layer_norm(&part("norm1")),
                qkv: linear(&part("attn.qkv")),
                proj: linear(&part("attn.proj")),
                norm2: layer_norm(&part("norm2")),
                fc1: linear(&part("mlp.fc1")),
                fc2: linear(&part("mlp.fc2")),
            }
        });
        let shape = [1, geometry.patches() as i64 + 1, geometry.embed_dim() as i64];
        Ok(Self {
            blocks: blocks.collect(),
            cls_token: find("encoder.cls_token".into()),
            patch_embed: linear("encoder.patch_embed.proj"),
            positions: Tensor::from_slice(&positions(&geometry)).view(shape).to_device(device),
            norm: layer_norm("encoder.norm"),
            style_bias: geometry.style_bias().then(|| linear(STYLE_BIAS)),
            geometry,
            parameters,
            precision,
            tape: None,
            encoded: Cell::new(0),
        })
    }

    /// Switches gradient checkpointing on or off. [`Vit::backward`] works with both.
    pub fn checkpointing(self, on: bool) -> Self {
        Self { tape: on.then(Tape::default), ..self }
    }

    /// Returns every parameter with its published name, in a fixed order.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// Returns the device of the parameters.
    pub fn device(&self) -> Device {
        self.cls_token.device()
    }

    /// Copies the parameters to main memory.
    ///
    /// # Errors
    /// If libtorch cannot copy them.
    pub fn weights(&self) -> Result<Weights> {
        let mut weights = Weights::default();
        for (name, tensor) in &self.parameters {
            let shape = tensor.size().iter().map(|&n| n as usize).collect();
            let data = Vec::<f32>::try_from(tensor.detach().to_device(Device::Cpu).reshape([-1]))?;
            weights.tensors.insert(name.clone(), WeightTensor { shape, data });
        }
        Ok(weights)
    }

    /// Encodes standardised tiles: f32 [B, C, H, W] → tokens f32 [B, N+1, h + S], CLS first: Z, and
    /// the style bias after it if the model has one.
    pub fn encode(&self, tiles: &Tensor) -> Tensor {
        self.encoded.set(self.encoded.get() + tiles.size()[0] as u64);
        let z = match &self.tape {
            Some(tape) => self.stages(|stages| tape.forward(tiles, stages)),
            None => (0..self.blocks.len()).fold(self.embed(tiles), |z, i| self.block(i, &z)),
        };
        let z = self.norm.forward(&z);
        let Some(layer) = &self.style_bias else { return z };
        let half = self.geometry.half() as i64;
        let bias = layer.forward(&z.narrow(-1, half, half), self.precision).to_kind(Kind::Float);
        Tensor::cat(&[z, bias], -1)
    }

    /// Returns the number of tiles encoded so far, from which the work is computed.
    pub fn encoded(&self) -> u64 {
        self.encoded.get()
    }

    /// Adds the gradients of `loss`, which was computed from the results of [`Vit::encode`] since
    /// the last call, to those of the parameters.
    pub fn backward(&self, loss: &Tensor) {
        match &self.tape {
            Some(tape) => self.stages(|stages| tape.backward(loss, stages)),
            None => loss.backward(),
        }
    }

    fn stages<T>(&self, run: impl FnOnce(&Stages<'_>) -> T) -> T {
        run(&Stages {
            embed: &|tiles| self.embed(tiles),
            blocks: self.blocks.len(),
            block: &|i, x| self.block(i, x),
        })
    }

    /// Embeds patches and adds positions: standardised tiles f32 [B, C, H, W] → f32 [B, N+1, E],
    /// CLS first.
    fn embed(&self, tiles: &Tensor) -> Tensor {
        let patch = self.geometry.patch_size() as i64;
        let (grid, batch) = (self.geometry.grid() as i64, tiles.size()[0]);
        // [B, C, g, P, g, P] → [B, N, C·P·P], the order of a convolution's weight.
        let patches = tiles
            .view([batch, 3, grid, patch, grid, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, grid * grid, -1]);
        let embed = Linear {
            weight: self.patch_embed.weight.flatten(1, -1),
            bias: self.patch_embed.bias.shallow_clone(),
        };
        let tokens = embed.forward(&patches, self.precision).to_kind(Kind::Float);
        let cls = self.cls_token.expand([batch, 1, -1], false);
        Tensor::cat(&[cls, tokens], 1) + &self.positions
    }

    /// Applies block `index`: f32 [B, N+1, E] → the same shape.
    fn block(&self, index: usize, x: &Tensor) -> Tensor {
        self.blocks[index].forward(x, self.geometry.num_heads() as i64, self.precision)
    }
}

fn initial(name: &str, shape: &[i64]) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    if name.ends_with("cls_token") {
        return Tensor::randn(shape, options) * 0.02;
    }
    if name.starts_with(STYLE_BIAS) {
        return Tensor::zeros(shape, options);
    }
    if shape.len() < 2 {
        let ones = name.ends_with("weight");
        return if ones { Tensor::ones(shape, options) } else { Tensor::zeros(shape, options) };
    }
    let fan_in: i64 = shape[1..].iter().product();
    let bound = (6.0 / (fan_in + shape[0]) as f64).sqrt();
    (Tensor::rand(shape, options) * 2.0 - 1.0) * bound
}
