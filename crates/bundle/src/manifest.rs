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
