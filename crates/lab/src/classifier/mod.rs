//! Tile classifiers: their accuracy measures what an augmentation is worth, and their features
//! measure the distance between two sets of tiles.
//!
//! There are two convolutional networks with batch norm, initialised from a seed and trained on
//! tiles in memory. They are never part of a bundle. Domains and augmentations are left to the
//! caller, which passes the variants.

mod densenet;
mod fit;
mod layers;
mod small;
mod tiles;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use densenet::DenseNet;
use layers::{Builder, Linear, Named};
use small::Small;

pub use fit::{FitConfig, Fitted, Score, Variants, fit, score};
pub use tiles::{Tiles, input, standardised};

/// The network: `--classifier`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// A residual network of 0.3 million weights: seconds an epoch on one CPU core.
    Small,
    /// DenseNet-121 (Huang et al. 2017), the paper's: 7 million weights; slow without a GPU.
    #[value(name = "densenet121")]
    DenseNet121,
}

enum Trunk {
    Small(Small),
    DenseNet(DenseNet),
}

/// A network with its weights, all f32 on one device.
pub struct Classifier {
    parameters: Named,
    /// Running means and variances.
    buffers: Named,
    trunk: Trunk,
    head: Linear,
    device: Device,
}

impl Classifier {
    /// Initialises the weights. The same seed gives the same weights, also if other threads draw
    /// random numbers.
    pub fn init(architecture: Architecture, classes: usize, seed: u64, device: Device) -> Self {
        let mut builder = Builder::new(seed, device);
        let (trunk, features) = match architecture {
            Architecture::Small => (Trunk::Small(Small::build(&mut builder)), small::FEATURES),
            Architecture::DenseNet121 => {
                (Trunk::DenseNet(DenseNet::build(&mut builder)), densenet::FEATURES)
            }
        };
        let head = builder.linear("classifier", features, classes as i64);
        let (parameters, buffers) = builder.finish();
        Self { parameters, buffers, trunk, head, device }
    }

    /// Returns every parameter with its name (torchvision's for DenseNet-121), in a fixed order.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// Returns the running means and variances with their names.
    pub fn buffers(&self) -> &[(String, Tensor)] {
        &self.buffers
    }

    /// Returns the device of the weights.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Computes logits: tiles f32 [B, 3, H, W], standardised by [`input`] → f32 [B, classes]. With
    /// `train`, batch norm uses the statistics of the batch and updates the running ones.
    pub fn logits(&self, tiles: &Tensor, train: bool) -> Tensor {
        self.head.forward(&self.pooled(tiles, train))
    }

    /// Computes the input of the last layer, in evaluation mode and without gradient: f32 [B, 3, H,
    /// W] → f32 [B, F].
    pub fn features(&self, tiles: &Tensor) -> Tensor {
        tch::no_grad(|| self.pooled(tiles, false))
    }

    /// Computes class probabilities, f64 [n, classes] row-major, `batch` tiles at a time.
    ///
    /// # Errors
    /// If libtorch cannot copy the result.
    pub fn probabilities(&self, tiles: &Tiles, batch: usize) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for chunk in tiles.pixels.chunks(batch.max(1)) {
            let logits =
                tch::no_grad(|| self.logits(&input(chunk, tiles.side, self.device), false));
            all.extend(Vec::<f64>::try_from(
                logits.softmax(-1, Kind::Double).to_device(Device::Cpu).reshape([-1]),
            )?);
        }
        Ok(all)
    }

    fn pooled(&self, tiles: &Tensor, train: bool) -> Tensor {
        let maps = match &self.trunk {
            Trunk::Small(small) => small.forward(tiles, train),
            Trunk::DenseNet(densenet) => densenet.forward(tiles, train),
        };
        maps.mean_dim([2i64, 3].as_slice(), false, Kind::Float)
    }

    /// Copies the parameters and buffers.
    fn snapshot(&self) -> Vec<Tensor> {
        self.state().map(|tensor| tensor.detach().copy()).collect()
    }

    fn restore(&self, snapshot: &[Tensor]) {
        tch::no_grad(|| {
            self.state().zip(snapshot).for_each(|(tensor, kept)| tensor.shallow_clone().copy_(kept))
        });
    }

    fn state(&self) -> impl Iterator<Item = &Tensor> {
        self.parameters.iter().chain(&self.buffers).map(|(_, tensor)| tensor)
    }
}

#[cfg(test)]
mod tests;
