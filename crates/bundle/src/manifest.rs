//! `bundle.json`, the manifest of a bundle.
//!
//! Parsing checks the schema first and then everything that needs no other file, so that a
//! [`Manifest`] names only plain files of its own directory. It does not read those files: see
//! [`Bundle::open`](super::Bundle::open).

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{BundleError, Precision};
use restain_method::{Geometry, Normalisation, PixelOrder};

/// The only schema that this program reads and writes.
pub const SCHEMA: &str = "restain.bundle/1";
/// The manifest's file name; it cannot be listed among `files`.
pub const MANIFEST_FILE: &str = "bundle.json";

/// `bundle.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The model's name: a plain name.
    pub name: String,
    /// The model's version: a plain name.
    pub version: String,
    /// The sizes of the model.
    pub geometry: Geometry,
    /// The order of the pixels of a patch.
    pub pixel_order: PixelOrder,
    /// Mean and standard deviation of pixels scaled to 0..1.
    pub normalisation: Normalisation,
    /// Precision → file.
    pub encoders: BTreeMap<Precision, String>,
    /// What tiles the model knows, as far as that was recorded.
    #[serde(default, skip_serializing_if = "Familiar::is_empty")]
    pub familiar: Familiar,
    /// File → sha256 in lower-case hex, for every file of the bundle but the manifest.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// How the model was made: free-form, an object.
    #[serde(default)]
    pub provenance: serde_json::Value,
    /// How good it is: free-form, an object.
    #[serde(default)]
    pub quality: serde_json::Value,
}

/// What tiles a model knows. Of others its answers warn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Familiar {
    /// The finest and the coarsest magnification of the tiles that it was trained on, as it saw
    /// them: µm a pixel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mpp: Option<[f64; 2]>,
    /// The PSNR of a tile's own reconstruction that 99 of 100 tiles of tissue it was trained on
    /// have, dB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fidelity: Option<f32>,
}

/// How far a magnification may be from those that a model knows: as far as two scanners of one
/// nominal magnification are apart, about.
const NEAR: f64 = 1.2;

impl Familiar {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn check(&self) -> Result<(), BundleError> {
        let wrong = |field, value, allowed| Err(BundleError::Familiar { field, value, allowed });
        let is_range = |[finest, coarsest]: [f64; 2]| {
            finest > 0.0 && finest <= coarsest && coarsest.is_finite()
        };
        if let Some(mpp) = self.mpp.filter(|mpp| !is_range(*mpp)) {
            let allowed = "two sizes of a pixel above 0 µm, the finer first";
            return wrong("mpp", format!("{mpp:?}"), allowed);
        }
        match self.fidelity.filter(|decibels| !(0.0..=99.0).contains(decibels)) {
            Some(decibels) => wrong("fidelity", decibels.to_string(), "from 0 to 99 dB"),
            None => Ok(()),
        }
    }

    /// Says why a tile is unlike those that the model knows: a tile with this PSNR of its own
    /// reconstruction, of which the model saw pixels of `seen` µm where that is known.
    pub fn warning(&self, fidelity: f32, seen: Option<f64>) -> Option<String> {
        let known = self
            .mpp
            .zip(seen)
            .filter(|([finest, coarsest], seen)| !(finest / NEAR..=coarsest * NEAR).contains(seen));
        if let Some(([finest, coarsest], seen)) = known {
            return Some(format!(
                "the model saw this tile at {seen:.2} µm a pixel, and knows tissue at {finest} to \
                {coarsest}"
            ));
        }
        self.fidelity.filter(|least| fidelity < *least).map(|least| {
            format!(
                "this tile is unlike what the model was trained on: its fidelity is {fidelity:.1} \
                dB, and that of 99 of 100 tiles it was trained on at least {least:.1}"
            )
        })
    }
}

impl Manifest {
    /// Parses and checks the bytes of the manifest at `path`, which only errors name.
    ///
    /// # Errors
    /// When the schema is another one, a field is wrong, or an encoder is not a listed file.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, BundleError> {
        #[derive(Deserialize)]
        struct SchemaOnly {
            schema: String,
        }
        let not_a_manifest = |source| BundleError::Manifest { path: path.to_owned(), source };
        let SchemaOnly { schema } = serde_json::from_slice(bytes).map_err(not_a_manifest)?;
        if schema != SCHEMA {
            return Err(BundleError::Schema { found: schema, expected: SCHEMA });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(not_a_manifest)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks names, and that every encoder is a listed file.
    pub(super) fn check(&self) -> Result<(), BundleError> {
        for (field, value) in [("name", &self.name), ("version", &self.version)] {
            if !is_plain_name(value) {
                return Err(BundleError::Name { field, value: value.clone() });
            }
        }
        for file in self.files.keys() {
            check_file_name(file)?;
        }
        self.familiar.check()?;
        if self.encoders.is_empty() {
            return Err(BundleError::NoEncoder);
        }
        match self.encoders.iter().find(|(_, file)| !self.files.contains_key(*file)) {
            Some((&precision, file)) => {
                Err(BundleError::UnlistedEncoder { precision, file: file.clone() })
            }
            None => Ok(()),
        }
    }
}

/// Rejects every name that could lead out of the bundle's directory, or replace its manifest.
pub(super) fn check_file_name(name: &str) -> Result<(), BundleError> {
    if is_plain_name(name) && name != MANIFEST_FILE {
        Ok(())
    } else {
        Err(BundleError::FileName(name.to_owned()))
    }
}

/// Returns whether a name is 1 to 128 letters, digits, `.`, `_` and `-`, and does not begin with
/// `.`: such a name is one directory or file.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.len() <= 128
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
