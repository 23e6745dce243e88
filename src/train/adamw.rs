//! AdamW with decoupled weight decay (Loshchilov and Hutter 2019), its moments in plain sight so that they can be saved.
//!
//! libtorch's own optimiser cannot be stored through `tch`, and a run that resumes without its moments is another run.

use tch::{Kind, Tensor};

/// Defaults are the published ones.
#[derive(Clone, Copy, Debug)]
pub struct AdamWConfig {
    pub betas: (f64, f64),
    pub eps: f64,
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.05 }
    }
}

pub struct AdamW {
    config: AdamWConfig,
    /// Steps taken.
    pub steps: i64,
    /// First and second moment of each parameter, in the parameters' order.
    pub moments: Vec<(Tensor, Tensor)>,
}

impl AdamW {
    pub fn new(config: AdamWConfig, parameters: &[(String, Tensor)]) -> Self {
        let moments = parameters.iter().map(|(_, p)| (p.detach().zeros_like(), p.detach().zeros_like())).collect();
        Self { config, steps: 0, moments }
    }

    /// One update from the gradients that `backward` left, which are zeroed.
    pub fn step(&mut self, parameters: &[(String, Tensor)], learning_rate: f64) {
        self.steps += 1;
        let (beta1, beta2) = self.config.betas;
        let first_scale = 1.0 - beta1.powi(self.steps as i32);
        let second_scale = (1.0 - beta2.powi(self.steps as i32)).sqrt();
        tch::no_grad(|| {
            for ((_, parameter), (first, second)) in parameters.iter().zip(&mut self.moments) {
                let mut gradient = parameter.grad();
                if !gradient.defined() {
                    continue;
                }
                // All in place: the gradient has served once the first moment has it, and is room for the rest.
                let mut parameter = parameter.shallow_clone();
                let _ = parameter.g_mul_scalar_(1.0 - learning_rate * self.config.weight_decay);
                let _ = first.lerp_(&gradient, 1.0 - beta1);
                let _ = second.lerp_(&gradient.square_(), 1.0 - beta2);
                let mut divisor = second.sqrt_out(&gradient);
                let _ = divisor.g_div_scalar_(second_scale).g_add_scalar_(self.config.eps).reciprocal_();
                let _ = parameter.addcmul_(first, &divisor.g_mul_scalar_(-learning_rate / first_scale));
                let _ = gradient.zero_();
            }
        });
    }
}

/// Cosine from `base` to 0 over `total` steps, without warm-up.
pub fn cosine(base: f64, step: u64, total: u64) -> f64 {
    0.5 * base * (1.0 + (std::f64::consts::PI * step as f64 / total.max(1) as f64).cos())
}

/// Euclidean norm of all gradients together, f32 scalar tensor.
pub fn gradient_norm(parameters: &[(String, Tensor)]) -> Tensor {
    let squares: Vec<Tensor> =
        parameters.iter().map(|(_, p)| p.grad()).filter(Tensor::defined).map(|g| g.square().sum(Kind::Float)).collect();
    Tensor::stack(&squares, 0).sum(Kind::Float).sqrt()
}
