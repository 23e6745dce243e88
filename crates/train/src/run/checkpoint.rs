//! The state of a run, from which it resumes exactly: weights, both moments of AdamW, and the step.
//!
//! Everything random is drawn from (seed, step), so there is no generator to save. A state is one
//! safetensors file, which [`atomic`] writes: a kill, a full disk or a power cut leaves the old
//! state or the new, never half of one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::model::vit::Vit;
use crate::objective::recipe::Recipe;
use restain_bundle::atomic;
use restain_method::{Geometry, Normalisation, PixelOrder};
use restain_torch::adamw::AdamW;

/// The checkpoint's name in a state's folder.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
/// The weights with the lowest validation loss so far, without moments: for export, not for
/// resuming.
pub const BEST_FILE: &str = "best.safetensors";

/// What identifies a run, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunHeader {
    pub geometry: Geometry,
    pub pixel_order: PixelOrder,
    pub normalisation: Normalisation,
    pub recipe: Recipe,
    pub seed: u64,
    /// Steps of the whole schedule.
    pub total_steps: u64,
    /// Steps taken.
    pub step: u64,
    /// Training time so far, seconds.
    pub seconds: f64,
    /// The part of it spent waiting for batches, seconds.
    pub waited_seconds: f64,
    /// The last validation, and the one with the lowest loss.
    pub validated: Option<Score>,
    pub best: Option<Score>,
    /// Length in bytes of the TensorBoard file at this step; a resumed run truncates it to this
    /// length.
    pub scalars_bytes: u64,
    /// Device and precision, for the provenance.
    pub device: String,
    /// The options of `fit` as given, for the provenance.
    pub options: serde_json::Value,
}

/// The validation of a step's weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub step: u64,
    /// Sum of the loss terms.
    pub total: f64,
    /// PSNR of 8-bit reconstructions, mean over tiles, dB.
    pub psnr_db: f64,
    pub ssim: f64,
}

/// A checkpoint in memory: its header, and its tensors by name.
pub struct Checkpoint {
    /// What identifies the run.
    pub header: RunHeader,
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
}

/// Saves a checkpoint in folder `dir`. The previous one remains until the new one is complete.
///
/// # Errors
/// If a value is not finite, or the file cannot be written.
pub fn save(dir: &Path, header: &RunHeader, vit: &Vit, optimiser: &AdamW) -> Result<()> {
    let moments = vit.parameters().iter().zip(&optimiser.moments);
    let moments = moments.flat_map(|((name, _), (first, second))| {
        [(format!("first.{name}"), first), (format!("second.{name}"), second)]
    });
    write(dir, CHECKPOINT_FILE, header, weights(vit).chain(moments))
}

/// Saves the weights only, as the best so far.
///
/// # Errors
/// If a value is not finite, or the file cannot be written.
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
                "{name} holds {value} after step {}, and is not saved: a lower --learning-rate may \
                help",
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
    /// Opens the checkpoint in folder `dir`, to resume from.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or was not written by this version.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::read(dir.join(CHECKPOINT_FILE))
    }

    /// Opens the weights with the lowest validation loss.
    ///
    /// # Errors
    /// If there are none, or the file is damaged.
    pub fn open_best(dir: &Path) -> Result<Self> {
        Self::read(dir.join(BEST_FILE))
            .context("best weights are saved only by a run with validation")
    }

    fn read(path: PathBuf) -> Result<Self> {
        let bytes =
            std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let damaged = || format!("{} is damaged ({} bytes)", path.display(), bytes.len());
        let (_, metadata) = SafeTensors::read_metadata(&bytes).with_context(damaged)?;
        let run =
            metadata.metadata().as_ref().and_then(|map| map.get("run")).with_context(|| {
                format!("{} was not written by fit: its header has no `run`", path.display())
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

    /// Copies weights and moments into a model and an optimiser.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn restore(&self, vit: &Vit, optimiser: &mut AdamW) -> Result<()> {
        self.restore_weights(vit)?;
        for ((name, _), (first, second)) in vit.parameters().iter().zip(&mut optimiser.moments) {
            self.copy(&format!("first.{name}"), first)?;
            self.copy(&format!("second.{name}"), second)?;
        }
        optimiser.steps = self.header.step as i64;
        Ok(())
    }

    /// Copies the weights into a model.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
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
            "{path}: {name} has shape {:?}, and the geometry requires {:?}",
            held.size(),
            into.size()
        );
        tch::no_grad(|| into.f_copy_(held))?;
        Ok(())
    }
}
