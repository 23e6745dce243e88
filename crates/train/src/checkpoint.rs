//! The state of a run, from which it goes on exactly: weights, both moments of AdamW, and the step.
//!
//! Everything random is drawn from (seed, step), so there is no generator to save. A state is one safetensors file, which
//! [`atomic`] writes: a kill, a full disk or a power cut leaves the old state or the new, never half of one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::recipe::Recipe;
use crate::vit::Vit;
use restain_bundle::atomic;
use restain_method::{Geometry, Normalisation, PixelOrder};
use restain_torch::adamw::AdamW;

pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
/// The weights with the lowest validation loss so far, without moments: to export, not to go on from.
pub const BEST_FILE: &str = "best.safetensors";

/// What must be the same for a run to be the same run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunHeader {
    pub geometry: Geometry,
    pub pixel_order: PixelOrder,
    pub normalisation: Normalisation,
    pub recipe: Recipe,
    pub seed: u64,
    /// Steps the schedule is laid out for, and steps taken.
    pub total_steps: u64,
    pub step: u64,
    pub seconds: f64,
    /// Of those, seconds in which the loop had no batch to work on.
    #[serde(default)]
    pub waited_seconds: f64,
    /// The last validation, and the one with the lowest loss.
    #[serde(default)]
    pub validated: Option<Score>,
    #[serde(default)]
    pub best: Option<Score>,
    /// Length of the file of scalars that belongs to this step: what is behind it was written by steps that are lost.
    #[serde(default)]
    pub scalars_bytes: u64,
    /// What it was trained on and in which precision, for the provenance.
    #[serde(default)]
    pub device: String,
    /// The options of `fit` as given, for the provenance.
    pub options: serde_json::Value,
}

/// How good the weights of a step were on the images kept out of training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub step: u64,
    /// Sum of the loss terms.
    pub total: f64,
    /// Of reconstructions, 8-bit; means over tiles.
    pub psnr_db: f64,
    pub ssim: f64,
}

/// A checkpoint read back: the header, and the tensors by name.
pub struct Checkpoint {
    pub header: RunHeader,
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

/// Saves the state whole. The one before stands until this one is complete.
pub fn save(dir: &Path, header: &RunHeader, vit: &Vit, optimiser: &AdamW) -> Result<()> {
    let moments = vit.parameters().iter().zip(&optimiser.moments);
    let moments = moments.flat_map(|((name, _), (first, second))| {
        [(format!("first.{name}"), first), (format!("second.{name}"), second)]
    });
    write(dir, CHECKPOINT_FILE, header, weights(vit).chain(moments))
}

/// Saves the weights alone as the best so far.
pub fn save_best(dir: &Path, header: &RunHeader, vit: &Vit) -> Result<()> {
    write(dir, BEST_FILE, header, weights(vit))
}

fn weights(vit: &Vit) -> impl Iterator<Item = (String, &Tensor)> {
    vit.parameters().iter().map(|(name, tensor)| (name.clone(), tensor))
}

fn write<'a>(
    dir: &Path,
    file: &str,
    header: &RunHeader,
    tensors: impl Iterator<Item = (String, &'a Tensor)>,
) -> Result<()> {
    let mut arrays: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for (name, tensor) in tensors {
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        let data = Vec::<f32>::try_from(tensor.detach().to_device(Device::Cpu).reshape([-1]))?;
        if let Some(value) = data.iter().find(|value| !value.is_finite()) {
            bail!(
                "{name} holds {value} after step {}, and is not saved: a lower --learning-rate may help",
                header.step
            );
        }
        arrays.push((name, shape, data));
    }
    let views = arrays.iter().map(|(name, shape, data)| {
        Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(data))?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("run".to_owned(), serde_json::to_string(header)?)]);
    let path = dir.join(file);
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    atomic::write_file_with(&path, |fresh| -> Result<()> {
        Ok(safetensors::serialize_to_file(views, Some(metadata), fresh)?)
    })
    .with_context(|| format!("cannot write {}", path.display()))
    .with_context(|| format!("the state of step {} cannot be saved", header.step))
}

impl Checkpoint {
    /// The state that a run goes on from.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::read(dir.join(CHECKPOINT_FILE))
    }

    /// The weights of the lowest validation loss.
    pub fn open_best(dir: &Path) -> Result<Self> {
        Self::read(dir.join(BEST_FILE)).context("a best state is kept of a run that validates")
    }

    fn read(path: PathBuf) -> Result<Self> {
        let bytes =
            std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let damaged = || format!("{} is damaged ({} bytes)", path.display(), bytes.len());
        let (_, metadata) = SafeTensors::read_metadata(&bytes).with_context(damaged)?;
        let run =
            metadata.metadata().as_ref().and_then(|map| map.get("run")).with_context(|| {
                format!("{} is no state of fit: it has no `run` in its header", path.display())
            })?;
        let header: RunHeader = serde_json::from_str(run)
            .with_context(|| format!("{}: its header is of another version", path.display()))?;
        let file = SafeTensors::deserialize(&bytes).with_context(damaged)?;
        let tensors = file.iter().map(|(name, view)| {
            ensure!(
                view.dtype() == Dtype::F32,
                "{name} of {} is {:?}, and must be F32",
                path.display(),
                view.dtype()
            );
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            let data: Vec<f32> = bytemuck::pod_collect_to_vec(view.data());
            Ok((name.to_owned(), Tensor::from_slice(&data).view(shape.as_slice())))
        });
        let tensors = tensors.collect::<Result<_>>()?;
        Ok(Self { header, path, tensors })
    }

    /// Copies weights and moments into a model and an optimiser of the same geometry.
    pub fn restore(&self, vit: &Vit, optimiser: &mut AdamW) -> Result<()> {
        self.restore_weights(vit)?;
        for ((name, _), (first, second)) in vit.parameters().iter().zip(&mut optimiser.moments) {
            self.copy(&format!("first.{name}"), first)?;
            self.copy(&format!("second.{name}"), second)?;
        }
        optimiser.steps = self.header.step as i64;
        Ok(())
    }

    pub fn restore_weights(&self, vit: &Vit) -> Result<()> {
        vit.parameters()
            .iter()
            .try_for_each(|(name, parameter)| self.copy(name, &mut parameter.shallow_clone()))
    }

    fn copy(&self, name: &str, into: &mut Tensor) -> Result<()> {
        let path = self.path.display();
        let held = self.tensors.get(name).with_context(|| format!("{path} lacks {name}"))?;
        // `copy_` broadcasts.
        ensure!(
            held.size() == into.size(),
            "{path}: {name} is {:?}, and its geometry wants {:?}",
            held.size(),
            into.size()
        );
        tch::no_grad(|| into.f_copy_(held))?;
        Ok(())
    }
}
