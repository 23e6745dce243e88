//! The layers of the classifiers, and the builder that draws and names their weights.
//!
//! Weights come from a ChaCha stream, because all threads share libtorch's generator: networks
//! initialised at the same time equal those initialised one after another.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Device, Tensor};

use restain_data::{normal, unit};

/// PyTorch's defaults.
const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-5;

/// Named tensors, in the order in which they were created.
pub(super) type Named = Vec<(String, Tensor)>;

/// Creates layers, and collects their parameters and buffers.
pub(super) struct Builder {
    parameters: Named,
    buffers: Named,
    rng: ChaCha8Rng,
    device: Device,
}

/// Side, stride and zero padding of a convolution.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub side: i64,
    pub stride: i64,
    pub padding: i64,
}

impl Builder {
    pub(super) fn new(seed: u64, device: Device) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Training with the same seed uses the other streams.
        rng.set_stream(u64::MAX);
        Self { parameters: Vec::new(), buffers: Vec::new(), rng, device }
    }

    /// Returns the parameters and the buffers.
    pub(super) fn finish(self) -> (Named, Named) {
        (self.parameters, self.buffers)
    }

    /// Adds a convolution without bias, because a batch norm follows. Weights are normal with
    /// standard deviation √(2 / fan-in) (He et al. 2015).
    pub(super) fn conv(&mut self, name: &str, inputs: i64, outputs: i64, window: Window) -> Conv {
        let shape = [outputs, inputs, window.side, window.side];
        let deviation = (2.0 / (inputs * window.side * window.side) as f64).sqrt();
        let weight = self.drawn(&format!("{name}.weight"), &shape, |rng| deviation * normal(rng));
        Conv { weight, window }
    }

    /// Adds a batch norm with weight 1 and bias 0.
    pub(super) fn norm(&mut self, name: &str, channels: i64) -> BatchNorm {
        let mut buffer = |name: String, value: f64| {
            let tensor = Tensor::full([channels], value, (tch::Kind::Float, self.device));
            self.buffers.push((name, tensor.shallow_clone()));
            tensor
        };
        let running_mean = buffer(format!("{name}.running_mean"), 0.0);
        let running_var = buffer(format!("{name}.running_var"), 1.0);
        let weight = self.drawn(&format!("{name}.weight"), &[channels], |_| 1.0);
        let bias = self.drawn(&format!("{name}.bias"), &[channels], |_| 0.0);
        BatchNorm { weight, bias, running_mean, running_var }
    }

    /// Adds an affine layer. Weights are uniform in ±1/√inputs; the bias is zero.
    pub(super) fn linear(&mut self, name: &str, inputs: i64, outputs: i64) -> Linear {
        let bound = (inputs as f64).powf(-0.5);
        let weight = self.drawn(&format!("{name}.weight"), &[outputs, inputs], |rng| {
            bound * (2.0 * unit(rng) - 1.0)
        });
        let bias = self.drawn(&format!("{name}.bias"), &[outputs], |_| 0.0);
        Linear { weight, bias }
    }

    fn drawn(
        &mut self,
        name: &str,
        shape: &[i64],
        mut value: impl FnMut(&mut ChaCha8Rng) -> f64,
    ) -> Tensor {
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| value(&mut self.rng) as f32).collect();
        let tensor =
            Tensor::from_slice(&values).view(shape).to_device(self.device).set_requires_grad(true);
        self.parameters.push((name.to_owned(), tensor.shallow_clone()));
        tensor
    }
}

/// A convolution.
pub(super) struct Conv {
    weight: Tensor,
    window: Window,
}

impl Conv {
    /// Convolves: [B, in, H, W] f32 → [B, out, H/stride, W/stride] f32.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        let Window { stride, padding, .. } = self.window;
        x.conv2d(&self.weight, None::<&Tensor>, [stride; 2], [padding; 2], [1; 2], 1)
    }
}

/// Batch normalisation (Ioffe and Szegedy 2015).
pub(super) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

impl BatchNorm {
    /// Normalises: [B, C, H, W] f32 → the same shape.
    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let parts = [&self.weight, &self.bias, &self.running_mean, &self.running_var].map(Some);
        let [weight, bias, mean, var] = parts;
        x.batch_norm(weight, bias, mean, var, train, MOMENTUM, EPS, true)
    }
}

/// An affine layer.
pub(super) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Multiplies and adds: [B, in] f32 → [B, out] f32.
    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}
