//! Export: trained weights become a bundle with ONNX graphs.
//!
//! [`export`] writes the graphs into a draft of the bundle, runs them with ONNX Runtime on fixed
//! tiles, and refuses those that do not agree with the trained weights. It does not use libtorch:
//! the weights are plain numbers, and the trainer's encoder is passed as a function. The caller
//! adds styles, card and samples to the draft and publishes it. [`add_fp16`] adds the fp16 graph to
//! a copy of a bundle without one.

mod agreement;
mod encoder;
mod external;
mod graph;
mod half;
mod onnx;
mod quantise;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::agreement::{TILES, fixed_tiles, reconstruction_psnr, relative_difference};
use self::encoder::{EncoderGraph, quantisable};
use self::graph::ExternalData;
use restain_bundle::{
    BundleDraft, BundleError, Familiar, Manifest, Precision, SCHEMA, WEIGHTS_FILE, Weights,
    WeightsError,
};
use restain_engine::{Encoder, EncoderOptions, Encodings, EngineError, Runtime};
use restain_method::{Geometry, Normalisation, PixelOrder};

/// Largest allowed difference of the fp32 graph's latents from the trainer's, relative to their
/// largest magnitude.
pub(crate) const FP32_TOLERANCE: f64 = 1e-4;
/// Smallest allowed PSNR, in dB, between tiles reconstructed in int8 and in fp32.
pub(crate) const INT8_PSNR: f64 = 40.0;
/// The same for fp16.
pub(crate) const FP16_PSNR: f64 = 45.0;

/// The trained weights as the trainer runs them: tiles u8 [batch, H, W, 3] and batch → encodings.
pub(crate) type Reference<'a> = &'a dyn Fn(&[u8], usize) -> anyhow::Result<Encodings>;

/// What to export.
pub(crate) struct ExportRequest<'a> {
    pub weights: &'a Weights,
    pub geometry: Geometry,
    pub pixel_order: PixelOrder,
    pub normalisation: Normalisation,
    pub name: String,
    pub version: String,
    /// An object; the exporter adds `export` to it.
    pub provenance: Value,
    /// The bundle's directory.
    pub out: &'a Path,
    pub overwrite: bool,
    /// Write `encoder.int8.onnx` too.
    pub int8: bool,
    pub reference: Reference<'a>,
    /// False for weights that were never trained: their reconstructions mean nothing, so fp16 and
    /// int8 are not held to them.
    pub trained: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("the weights do not fit the geometry")]
    Weights(#[from] WeightsError),
    #[error("the exported graph does not run")]
    Engine(#[from] EngineError),
    #[error("cannot read the layout of {path}")]
    Layout { path: PathBuf, source: std::io::Error },
    #[error("the trained weights could not be run for comparison")]
    Reference(#[source] anyhow::Error),
    #[error(
        "the fp32 graph is {found:.1e} away from the trained weights, and may be \
        {FP32_TOLERANCE:.0e}: nothing was written"
    )]
    Fp32Disagrees { found: f64 },
    #[error(
        "int8 reconstructs at {found:.1} dB of fp32 with {kept} of {layers} layers kept in fp32, \
        and must reach {INT8_PSNR} dB: nothing was written; export without int8"
    )]
    Int8Disagrees { found: f64, kept: usize, layers: usize },
    #[error(
        "fp16 reconstructs at {found:.1} dB of fp32, and must reach {FP16_PSNR} dB: nothing was \
        written"
    )]
    Fp16Disagrees { found: f64 },
}

/// Writes weights and graphs into a draft of the bundle, which has no styles yet.
///
/// # Errors
/// When a graph does not run or does not agree with the weights; nothing is left then.
pub(crate) fn export(request: &ExportRequest<'_>) -> Result<BundleDraft, ExportError> {
    request.weights.check(&request.geometry)?;
    let mut draft = BundleDraft::new(request.out, request.overwrite, manifest(request))?;
    let weights_path = draft.path(WEIGHTS_FILE)?;
    request.weights.write_with_positions(&weights_path, &request.geometry)?;
    let spans = external::spans(&weights_path)
        .map_err(|source| ExportError::Layout { path: weights_path, source })?;
    let trial = Trial {
        geometry: request.geometry,
        pixel_order: request.pixel_order,
        normalisation: request.normalisation,
        weights: request.weights,
        trained: request.trained,
        spans,
        runtime: Runtime::load()?,
        tiles: fixed_tiles(&request.geometry),
    };

    let graph = trial.graph(&BTreeSet::new()).build();
    let path = draft.add(Precision::Fp32.file_name(), &graph)?;
    let fp32 = trial.encode(&path)?;
    let reference = (request.reference)(&trial.tiles, TILES).map_err(ExportError::Reference)?;
    let found = relative_difference(&fp32, &reference);
    if found > FP32_TOLERANCE {
        return Err(ExportError::Fp32Disagrees { found });
    }
    tracing::info!(difference = found, "the fp32 graph agrees with the trained weights");
    list(&mut draft, Precision::Fp32);
    let mut record = json!({ "fp32_relative_difference": found });
    let found = trial.write_fp16(&mut draft, &fp32)?;
    record["fp16"] = json!({ "psnr_db": figure(found) });
    if trial.fp16_holds(found) {
        list(&mut draft, Precision::Fp16);
    } else {
        tracing::warn!(
            psnr_db = found,
            at_least_db = FP16_PSNR,
            "the fp16 encoder is left out: it loses too much"
        );
        draft.remove(Precision::Fp16.file_name())?;
        record["fp16"]["left_out"] = json!(true);
    }
    if request.int8 {
        record["int8"] = trial.write_int8(&mut draft, &fp32)?;
        list(&mut draft, Precision::Int8);
    }
    draft.manifest.provenance["export"] = record;
    Ok(draft)
}

/// Lists an encoder in the manifest.
fn list(draft: &mut BundleDraft, precision: Precision) {
    draft.manifest.encoders.insert(precision, precision.file_name().to_owned());
}

/// Returns the manifest of a bundle without encoders.
fn manifest(request: &ExportRequest<'_>) -> Manifest {
    let provenance =
        if request.provenance.is_object() { request.provenance.clone() } else { json!({}) };
    Manifest {
        schema: SCHEMA.to_owned(),
        name: request.name.clone(),
        version: request.version.clone(),
        geometry: request.geometry,
        pixel_order: request.pixel_order,
        normalisation: request.normalisation,
        encoders: BTreeMap::new(),
        familiar: Familiar::default(),
        files: BTreeMap::new(),
        provenance,
        quality: json!({}),
    }
}

/// Adds `encoder.fp16.onnx` to the draft of a bundle, or replaces it, and returns its PSNR to fp32,
/// in dB.
///
/// # Errors
/// When the graph of a trained bundle loses too much; the draft is not to be published then.
pub(crate) fn add_fp16(draft: &mut BundleDraft) -> Result<f64, ExportError> {
    let dir = draft.so_far()?.dir;
    let Manifest { geometry, pixel_order, normalisation, ref provenance, .. } = draft.manifest;
    let trained = provenance["untrained"] != json!(true);
    let weights_path = dir.join(WEIGHTS_FILE);
    let weights = Weights::read(&weights_path)?;
    let spans = external::spans(&weights_path)
        .map_err(|source| ExportError::Layout { path: weights_path, source })?;
    let (runtime, tiles) = (Runtime::load()?, fixed_tiles(&geometry));
    let weights = &weights;
    let trial =
        Trial { geometry, pixel_order, normalisation, weights, trained, spans, runtime, tiles };
    let fp32 = trial.encode(&dir.join(Precision::Fp32.file_name()))?;
    let found = trial.write_fp16(draft, &fp32)?;
    if !trial.fp16_holds(found) {
        return Err(ExportError::Fp16Disagrees { found });
    }
    list(draft, Precision::Fp16);
    draft.manifest.provenance["export"]["fp16"] = json!({ "psnr_db": figure(found) });
    Ok(found)
}

/// JSON has no word for what is not finite.
fn figure(psnr: f64) -> Value {
    if psnr.is_finite() { json!(psnr) } else { Value::Null }
}

/// Graphs of these weights, tried on fixed tiles.
struct Trial<'a> {
    geometry: Geometry,
    pixel_order: PixelOrder,
    normalisation: Normalisation,
    weights: &'a Weights,
    trained: bool,
    spans: BTreeMap<String, ExternalData>,
    runtime: Runtime,
    tiles: Vec<u8>,
}

impl Trial<'_> {
    fn graph<'a>(&'a self, int8: &'a BTreeSet<String>) -> EncoderGraph<'a> {
        let Self { geometry, normalisation, weights, spans, .. } = self;
        EncoderGraph { geometry, normalisation, weights, spans, int8 }
    }

    fn encode(&self, graph: &Path) -> Result<Encodings, ExportError> {
        let mut encoder =
            Encoder::open(&self.runtime, graph, &self.geometry, &EncoderOptions::cpu(0))?;
        Ok(encoder.encode(&self.tiles, TILES)?)
    }

    /// In dB, between what these latents and those of fp32 reconstruct.
    fn psnr(&self, found: &Encodings, fp32: &Encodings) -> f64 {
        reconstruction_psnr(found, fp32, self.geometry, self.pixel_order, self.normalisation)
    }

    /// Writes the fp16 graph, and returns its PSNR to fp32.
    fn write_fp16(&self, draft: &mut BundleDraft, fp32: &Encodings) -> Result<f64, ExportError> {
        let graph = self.graph(&BTreeSet::new()).build_half();
        let path = draft.add(Precision::Fp16.file_name(), &graph)?;
        Ok(self.psnr(&self.encode(&path)?, fp32))
    }

    fn fp16_holds(&self, psnr: f64) -> bool {
        psnr >= FP16_PSNR || !self.trained
    }

    /// Writes the graph with these layers in int8, and returns its PSNR to fp32.
    fn try_int8(
        &self,
        draft: &mut BundleDraft,
        layers: &BTreeSet<String>,
        fp32: &Encodings,
    ) -> Result<f64, ExportError> {
        let path = draft.add(Precision::Int8.file_name(), &self.graph(layers).build())?;
        Ok(self.psnr(&self.encode(&path)?, fp32))
    }

    /// Writes the int8 graph with as few layers left in fp32 as the bar asks for, and returns the
    /// record of it.
    fn write_int8(&self, draft: &mut BundleDraft, fp32: &Encodings) -> Result<Value, ExportError> {
        let layers = quantisable(&self.geometry);
        let all: BTreeSet<String> = layers.iter().cloned().collect();
        let found = self.try_int8(draft, &all, fp32)?;
        let (kept, found) = if found >= INT8_PSNR || !self.trained {
            (Vec::new(), found)
        } else {
            tracing::info!(
                psnr_db = found,
                "int8 throughout loses too much: looking for the layers to keep in fp32"
            );
            self.keep_worst(draft, &all, fp32)?
        };
        tracing::info!(psnr_db = found, layers_in_fp32 = kept.len(), "int8 agrees with fp32");
        Ok(json!({ "psnr_db": figure(found), "layers": layers.len(), "layers_kept_in_fp32": kept }))
    }

    /// Orders the layers by what each loses alone, then halves its way to the fewest worst ones
    /// that must stay in fp32. More than half of them would make int8 pointless, and is refused.
    fn keep_worst(
        &self,
        draft: &mut BundleDraft,
        all: &BTreeSet<String>,
        fp32: &Encodings,
    ) -> Result<(Vec<String>, f64), ExportError> {
        let mut losses = Vec::with_capacity(all.len());
        for layer in all {
            losses.push((self.try_int8(draft, &BTreeSet::from([layer.clone()]), fp32)?, layer));
        }
        losses.sort_by(|a, b| a.0.total_cmp(&b.0));
        let worst: Vec<&String> = losses.into_iter().map(|(_, layer)| layer).collect();
        let without = |kept: usize| {
            worst[kept..].iter().map(|layer| (*layer).clone()).collect::<BTreeSet<_>>()
        };

        // Too few kept at `below`, enough at `enough`.
        let (mut below, mut enough) = (0, all.len() / 2);
        let found = self.try_int8(draft, &without(enough), fp32)?;
        if found < INT8_PSNR {
            return Err(ExportError::Int8Disagrees { found, kept: enough, layers: all.len() });
        }
        while enough - below > 1 {
            let middle = usize::midpoint(below, enough);
            if self.try_int8(draft, &without(middle), fp32)? >= INT8_PSNR {
                enough = middle
            } else {
                below = middle
            }
        }
        // Written last, so that it is the graph that stays.
        let found = self.try_int8(draft, &without(enough), fp32)?;
        Ok((worst[..enough].iter().map(|layer| (*layer).clone()).collect(), found))
    }
}

#[cfg(test)]
mod tests;
