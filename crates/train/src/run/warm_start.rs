//! A warm start, `fit --from BUNDLE`: the weights of a bundle in place of drawn ones.
//!
//! What the weights only make sense with (geometry, pixel order, normalisation) is then the bundle's as well; an option that
//! says otherwise is refused. The optimiser starts afresh: a bundle holds no moments, and a schedule begins at its top.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use restain_bundle::{Bundle, Manifest, WEIGHTS_FILE, Weights};
use restain_method::{Geometry, Normalisation, PixelOrder};

/// The bundle that a run started from, as its provenance names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub name: String,
    pub version: String,
    /// sha256 of its `weights.safetensors`, lower-case hex.
    pub weights_sha256: String,
}

pub(crate) struct WarmStart {
    pub origin: Origin,
    pub weights: Weights,
    manifest: Manifest,
}

impl WarmStart {
    /// Reads a bundle whole, verified; one without `weights.safetensors` cannot be trained further.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let Bundle { manifest, .. } =
            Bundle::open(dir).with_context(|| format!("--from {}", dir.display()))?;
        let digest = manifest.files.get(WEIGHTS_FILE);
        let weights_sha256 = digest
            .with_context(|| format!("--from {}: it holds no {WEIGHTS_FILE}", dir.display()))?
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

    pub(crate) fn geometry(&self) -> Geometry {
        self.manifest.geometry
    }

    /// The bundle's, which is what `asked` must be where anything was asked.
    pub(crate) fn pixel_order(&self, asked: Option<PixelOrder>) -> Result<PixelOrder> {
        let own = self.manifest.pixel_order;
        self.refuse("--pixel-order", asked.filter(|asked| *asked != own), own)
    }

    /// The bundle's, which is what `asked` must be where anything was asked.
    pub(crate) fn normalisation(&self, asked: Option<Normalisation>) -> Result<Normalisation> {
        let own = self.manifest.normalisation;
        let words = |n: Normalisation| format!("{:?} / {:?}", n.mean, n.std);
        self.refuse("--mean and --std", asked.filter(|asked| *asked != own).map(words), words(own))
            .map(|_| own)
    }

    /// The bundle's, refused unless it is the geometry that was `asked` for.
    pub(crate) fn agree(&self, asked: Geometry) -> Result<Geometry> {
        let own = self.geometry();
        let words = |g: Geometry| serde_json::to_string(&g).expect("a geometry is plain numbers");
        self.refuse(
            "the geometry",
            Some(asked).filter(|asked| *asked != own).map(words),
            words(own),
        )
        .map(|_| own)
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
