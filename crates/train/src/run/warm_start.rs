//! Warm start, `fit --from BUNDLE`: training starts from the weights of a bundle.
//!
//! Geometry, pixel order and normalisation belong to the weights and come from the bundle too; an
//! option that differs is an error. The optimiser and the learning rate schedule start anew,
//! because a bundle does not hold their state.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use restain_bundle::{Bundle, Manifest, STYLE_BIAS, Tensor, WEIGHTS_FILE, Weights, layout};
use restain_method::geometry::GeometrySpec;
use restain_method::{Geometry, Normalisation, PixelOrder};

/// The bundle that a run started from, for the provenance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub name: String,
    pub version: String,
    /// SHA-256 of its `weights.safetensors`, lower-case hex.
    pub weights_sha256: String,
}

/// An opened bundle to start from.
pub(crate) struct WarmStart {
    pub origin: Origin,
    weights: Weights,
    manifest: Manifest,
}

impl WarmStart {
    /// Opens and verifies the bundle in `dir`.
    ///
    /// # Errors
    /// If it is damaged, or has no `weights.safetensors`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let Bundle { manifest, .. } =
            Bundle::open(dir).with_context(|| format!("--from {}", dir.display()))?;
        let digest = manifest.files.get(WEIGHTS_FILE);
        let weights_sha256 = digest
            .with_context(|| format!("--from {}: the bundle has no {WEIGHTS_FILE}", dir.display()))?
            .clone();
        let weights = Weights::read(&dir.join(WEIGHTS_FILE))
            .with_context(|| format!("--from {}", dir.display()))?;
        let origin = Origin {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            weights_sha256,
        };
        Ok(Self { origin, weights, manifest })
    }

    /// Returns the bundle's geometry.
    pub(crate) fn geometry(&self) -> Geometry {
        self.manifest.geometry
    }

    /// Returns the bundle's pixel order.
    ///
    /// # Errors
    /// If `asked` is given and differs.
    pub(crate) fn pixel_order(&self, asked: Option<PixelOrder>) -> Result<PixelOrder> {
        let own = self.manifest.pixel_order;
        self.refuse("--pixel-order", asked.filter(|asked| *asked != own), own)
    }

    /// Returns the bundle's normalisation.
    ///
    /// # Errors
    /// If `asked` is given and differs.
    pub(crate) fn normalisation(&self, asked: Option<Normalisation>) -> Result<Normalisation> {
        let own = self.manifest.normalisation;
        let channels = |values: [f32; 3]| values.map(|value| value.to_string()).join(",");
        let words = |n: Normalisation| format!("{} and {}", channels(n.mean), channels(n.std));
        self.refuse("--mean and --std", asked.filter(|asked| *asked != own).map(words), words(own))
            .map(|_| own)
    }

    /// Returns the bundle's geometry, with a style bias where `asked` has one: of zero at first, so
    /// that training starts from the same model.
    ///
    /// # Errors
    /// If `asked` differs in anything else.
    pub(crate) fn agree(&self, asked: Geometry) -> Result<Geometry> {
        let own = GeometrySpec::from(self.geometry());
        let style_bias = own.style_bias || asked.style_bias();
        let own = Geometry::new(GeometrySpec { style_bias, ..own })?;
        let words = |g: Geometry| serde_json::to_string(&g).expect("a geometry is plain numbers");
        self.refuse(
            "the geometry",
            Some(asked).filter(|asked| *asked != own).map(words),
            words(own),
        )
        .map(|_| own)
    }

    /// Returns the weights, for the geometry that was agreed on.
    pub(crate) fn weights_for(mut self, geometry: &Geometry) -> Weights {
        for (name, shape) in layout(geometry) {
            if name.starts_with(STYLE_BIAS) {
                let data = vec![0.0; shape.iter().product()];
                self.weights.tensors.entry(name).or_insert(Tensor { shape, data });
            }
        }
        self.weights
    }

    fn refuse<T: std::fmt::Display>(&self, what: &str, other: Option<T>, own: T) -> Result<T> {
        let Some(other) = other else { return Ok(own) };
        bail!(
            "{what}: {other} was asked for, and --from {}/{} was trained with {own}",
            self.origin.name,
            self.origin.version
        )
    }
}
