//! The state of a run, from which it goes on exactly: weights, both moments of AdamW, and the step.
//!
//! Everything random is drawn from (seed, step), so there is no generator to save. A checkpoint is one safetensors file
//! written beside the old one and renamed over it: a kill leaves the old state or the new, never half of one.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::method::{Geometry, Normalisation, PixelOrder};
use crate::train::adamw::AdamW;
use crate::train::recipe::Recipe;
use crate::train::vit::Vit;

pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";

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
    /// What it was trained on and in which precision, for the provenance.
    #[serde(default)]
    pub device: String,
    /// The options of `fit` as given, for the provenance.
    pub options: serde_json::Value,
}

/// A checkpoint read back: the header, and the tensors by name.
pub struct Checkpoint {
    pub header: RunHeader,
    tensors: HashMap<String, Tensor>,
}

pub fn save(dir: &Path, header: &RunHeader, vit: &Vit, optimiser: &AdamW) -> Result<()> {
    let mut arrays: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let mut push = |name: String, tensor: &Tensor| -> Result<()> {
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        arrays.push((name, shape, Vec::<f32>::try_from(tensor.detach().to_device(Device::Cpu).reshape([-1]))?));
        Ok(())
    };
    for ((name, parameter), (first, second)) in vit.parameters().iter().zip(&optimiser.moments) {
        push(name.clone(), parameter)?;
        push(format!("first.{name}"), first)?;
        push(format!("second.{name}"), second)?;
    }
    let views = arrays
        .iter()
        .map(|(name, shape, data)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(data))?)));
    let views = views.collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("run".to_owned(), serde_json::to_string(header)?)]);
    std::fs::create_dir_all(dir)?;
    let fresh = dir.join(format!("{CHECKPOINT_FILE}.part"));
    safetensors::serialize_to_file(views, Some(metadata), &fresh).with_context(|| format!("cannot write {}", fresh.display()))?;
    std::fs::rename(&fresh, dir.join(CHECKPOINT_FILE))?;
    Ok(())
}

impl Checkpoint {
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(CHECKPOINT_FILE);
        let bytes = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
        let run = metadata
            .metadata()
            .as_ref()
            .and_then(|map| map.get("run"))
            .with_context(|| format!("{} is no checkpoint of fit", path.display()))?;
        let header: RunHeader = serde_json::from_str(run).with_context(|| format!("{}: its header", path.display()))?;
        let file = SafeTensors::deserialize(&bytes)?;
        let tensors = file.iter().map(|(name, view)| {
            ensure!(view.dtype() == Dtype::F32, "{name} of {} is not f32", path.display());
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            let data: Vec<f32> = bytemuck::pod_collect_to_vec(view.data());
            Ok((name.to_owned(), Tensor::from_slice(&data).view(shape.as_slice())))
        });
        Ok(Self { header, tensors: tensors.collect::<Result<_>>()? })
    }

    /// Copies weights and moments into a model and an optimiser of the same geometry.
    pub fn restore(&self, vit: &Vit, optimiser: &mut AdamW) -> Result<()> {
        let find = |name: &str| self.tensors.get(name).with_context(|| format!("the checkpoint lacks {name}"));
        tch::no_grad(|| -> Result<()> {
            for ((name, parameter), (first, second)) in vit.parameters().iter().zip(&mut optimiser.moments) {
                parameter.shallow_clone().f_copy_(find(name)?)?;
                first.f_copy_(find(&format!("first.{name}"))?)?;
                second.f_copy_(find(&format!("second.{name}"))?)?;
            }
            Ok(())
        })?;
        optimiser.steps = self.header.step as i64;
        Ok(())
    }
}
