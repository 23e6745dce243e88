//! AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019).
//!
//! `tch` cannot save the state of libtorch's own optimiser, and a run that resumes without its
//! moments diverges from one that was not interrupted. Here the moments are plain tensors.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::native::adamw::{self as together, Slot};

/// Hyperparameters of [`AdamW`]. The defaults are those of the published code.
#[derive(Clone, Copy, Debug)]
pub struct AdamWConfig {
    /// Decay rates of the first and the second moment.
    pub betas: (f64, f64),
    /// Added to the denominator, for numerical stability.
    pub eps: f64,
    /// Decoupled weight decay; multiplied by the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.05 }
    }
}

/// The optimiser with its state.
pub struct AdamW {
    config: AdamWConfig,
    /// Steps taken so far.
    pub steps: i64,
    /// First and second moment of each parameter: f32, of its shape, in the order of the
    /// parameters.
    pub moments: Vec<(Tensor, Tensor)>,
}

impl AdamW {
    /// Starts with zero moments for `parameters`.
    pub fn new(config: AdamWConfig, parameters: &[(String, Tensor)]) -> Self {
        let moments = parameters
            .iter()
            .map(|(_, p)| (p.detach().zeros_like(), p.detach().zeros_like()))
            .collect();
        Self { config, steps: 0, moments }
    }

    /// Updates the parameters from their gradients, then zeroes the gradients. `parameters` must be
    /// those given to [`AdamW::new`], in the same order; one without a gradient is left as it is.
    /// On a GPU one call updates all of them; on a CPU, where a loop costs nothing, they are
    /// updated one by one, so that the order of sums does not depend on libtorch's version.
    ///
    /// # Errors
    /// If libtorch reports an error on a GPU.
    pub fn step(&mut self, parameters: &[(String, Tensor)], learning_rate: f64) -> Result<()> {
        self.steps += 1;
        if on_gpu(parameters) {
            return self.step_together(parameters, learning_rate);
        }
        self.step_one_by_one(parameters, learning_rate);
        Ok(())
    }

    fn step_together(&self, parameters: &[(String, Tensor)], learning_rate: f64) -> Result<()> {
        let AdamWConfig { betas: (beta1, beta2), eps, weight_decay } = self.config;
        let with =
            together::Step { learning_rate, beta1, beta2, eps, weight_decay, step: self.steps };
        let slots =
            parameters.iter().zip(&self.moments).map(|((_, parameter), (first, second))| Slot {
                parameter,
                gradient: parameter.grad(),
                moments: (first, second),
            });
        together::step(&with, &slots.filter(|slot| slot.gradient.defined()).collect::<Vec<_>>())
    }

    fn step_one_by_one(&mut self, parameters: &[(String, Tensor)], learning_rate: f64) {
        let (beta1, beta2) = self.config.betas;
        let first_scale = 1.0 - beta1.powi(self.steps as i32);
        let second_scale = (1.0 - beta2.powi(self.steps as i32)).sqrt();
        tch::no_grad(|| {
            for ((_, parameter), (first, second)) in parameters.iter().zip(&mut self.moments) {
                let mut gradient = parameter.grad();
                if !gradient.defined() {
                    continue;
                }
                // All in place: once the first moment is updated, the gradient's memory holds the
                // intermediate results.
                let mut parameter = parameter.shallow_clone();
                let _ = parameter.g_mul_scalar_(1.0 - learning_rate * self.config.weight_decay);
                let _ = first.lerp_(&gradient, 1.0 - beta1);
                let _ = second.lerp_(&gradient.square_(), 1.0 - beta2);
                let mut divisor = second.sqrt_out(&gradient);
                let _ = divisor
                    .g_div_scalar_(second_scale)
                    .g_add_scalar_(self.config.eps)
                    .reciprocal_();
                let _ =
                    parameter.addcmul_(first, &divisor.g_mul_scalar_(-learning_rate / first_scale));
                let _ = gradient.zero_();
            }
        });
    }
}

/// Returns the learning rate at `step`: half a cosine from `base` at step 0 to 0 at `total`,
/// without warm-up.
pub fn cosine(base: f64, step: u64, total: u64) -> f64 {
    0.5 * base * (1.0 + (std::f64::consts::PI * step as f64 / total.max(1) as f64).cos())
}

/// Computes the L2 norm of all gradients as one vector: f32 [], on their device.
///
/// # Errors
/// If libtorch reports an error on a GPU.
pub fn gradient_norm(parameters: &[(String, Tensor)]) -> Result<Tensor> {
    let gradients = gradients(parameters);
    if on_gpu(parameters) {
        return together::norm(&gradients);
    }
    let squares: Vec<Tensor> =
        gradients.iter().map(|gradient| gradient.square().sum(Kind::Float)).collect();
    Ok(Tensor::stack(&squares, 0).sum(Kind::Float).sqrt())
}

/// Multiplies all gradients in place by `scale`, f32 [] on their device.
///
/// # Errors
/// If libtorch reports an error on a GPU.
pub fn scale_gradients(parameters: &[(String, Tensor)], scale: &Tensor) -> Result<()> {
    let gradients = gradients(parameters);
    if on_gpu(parameters) {
        return together::scale(&gradients, scale);
    }
    tch::no_grad(|| gradients.into_iter().for_each(|mut gradient| drop(gradient.g_mul_(scale))));
    Ok(())
}

fn gradients(parameters: &[(String, Tensor)]) -> Vec<Tensor> {
    parameters.iter().map(|(_, parameter)| parameter.grad()).filter(Tensor::defined).collect()
}

/// Returns whether the parameters, which are all on one device, are on a GPU.
fn on_gpu(parameters: &[(String, Tensor)]) -> bool {
    parameters.first().is_some_and(|(_, parameter)| parameter.device().is_cuda())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Two parameters and their gradients, the same in every call; a third has none.
    fn parameters() -> Vec<(String, Tensor)> {
        let named = |name: &str, data: &[f32]| {
            (name.to_owned(), Tensor::from_slice(data).set_requires_grad(true))
        };
        let parameters =
            vec![named("a", &[1.0, -2.0, 3.0]), named("b", &[0.5]), named("unused", &[7.0])];
        let (a, b) = (&parameters[0].1, &parameters[1].1);
        (a.square() * b.cos()).sum(Kind::Float).backward();
        parameters
    }

    fn values(tensors: impl IntoIterator<Item = Tensor>) -> Vec<f32> {
        tensors
            .into_iter()
            .flat_map(|tensor| Vec::<f32>::try_from(tensor.detach()).unwrap())
            .collect()
    }

    /// Weights, moments and gradients after three steps.
    fn after(step: impl Fn(&mut AdamW, &[(String, Tensor)])) -> Vec<f32> {
        let parameters = parameters();
        let mut optimiser = AdamW::new(AdamWConfig::default(), &parameters);
        for _ in 0..3 {
            let (a, b) = (&parameters[0].1, &parameters[1].1);
            (a.square() * b.cos()).sum(Kind::Float).backward();
            optimiser.steps += 1;
            step(&mut optimiser, &parameters);
        }
        let moments = optimiser.moments.into_iter().flat_map(|(first, second)| [first, second]);
        values(
            parameters
                .iter()
                .map(|(_, p)| p.shallow_clone())
                .chain(moments)
                .chain(gradients(&parameters)),
        )
    }

    #[test]
    fn one_call_for_all_parameters_updates_them_like_the_loop() {
        let one_by_one = after(|optimiser, parameters| optimiser.step_one_by_one(parameters, 0.01));
        let together =
            after(|optimiser, parameters| optimiser.step_together(parameters, 0.01).unwrap());
        assert_eq!(one_by_one.len(), together.len());
        for (place, (a, b)) in one_by_one.iter().zip(&together).enumerate() {
            assert!((a - b).abs() <= 1e-6 * a.abs().max(1.0), "{place}: {a} and {b}");
        }
        assert!((one_by_one[0] - 1.0).abs() > 0.01, "it moved");
    }

    #[test]
    fn norm_and_scale_in_one_call_are_those_of_the_loop() {
        let parameters = parameters();
        let norm = gradient_norm(&parameters).unwrap().double_value(&[]);
        assert!(
            (together::norm(&gradients(&parameters)).unwrap().double_value(&[]) - norm).abs()
                < 1e-5,
            "{norm}"
        );
        together::scale(&gradients(&parameters), &Tensor::from(0.5f32).to_device(Device::Cpu))
            .unwrap();
        assert!((gradient_norm(&parameters).unwrap().double_value(&[]) - norm / 2.0).abs() < 1e-5);
    }

    #[test]
    fn different_shapes_are_an_error() {
        let wrong = (
            Tensor::zeros([2], (Kind::Float, Device::Cpu)),
            Tensor::zeros([3], (Kind::Float, Device::Cpu)),
        );
        let parameter = Tensor::zeros([3], (Kind::Float, Device::Cpu));
        let slot = Slot {
            parameter: &parameter,
            gradient: parameter.shallow_clone(),
            moments: (&wrong.0, &wrong.1),
        };
        let with = together::Step {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            step: 1,
        };
        assert!(together::step(&with, &[slot]).is_err());
    }
}
