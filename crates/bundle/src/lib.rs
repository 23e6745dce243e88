//! Bundles: a bundle is one directory with everything that passes from training to serving.
//!
//! [`Bundle::open`] reads one and refuses it whole, with the reason, when a digest, a shape or the
//! schema is wrong. A [`BundleDraft`] is one that is being made or changed: it is published in one
//! step, so that its directory is complete or not there. [`atomic`] has the writes that this stands
//! on, for every program. This crate knows files, not graphs: whether an encoder computes the right
//! thing is for `engine` and the exporter to say.

#![warn(missing_docs)]

pub mod atomic;
pub mod codec;
mod draft;
mod error;
mod external;
mod manifest;
mod precision;
mod receive;
mod styles;
mod weights;

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use draft::BundleDraft;
pub use error::{BundleError, StylesError, WeightsError};
pub use external::{EncoderBytes, ExternalTensor};
pub use manifest::{Familiar, MANIFEST_FILE, Manifest, SCHEMA, is_plain_name};
pub use precision::{Precision, UnknownPrecision};
pub use receive::receive;
pub use styles::{STYLES_FILE, StyleBank, StyleEntry};
pub use weights::{POSITIONS, STYLE_BIAS, Tensor, WEIGHTS_FILE, Weights, layout};

/// A verified bundle.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Its directory.
    pub dir: PathBuf,
    /// Its `bundle.json`.
    pub manifest: Manifest,
    /// sha256 of `bundle.json`, in hex. The manifest holds the digests of all other files, so that
    /// this identifies the bundle.
    pub digest: String,
    /// Empty when the bundle lists no styles file.
    pub styles: StyleBank,
}

impl Bundle {
    /// Reads the bundle in `dir` and verifies every file that its manifest lists. When another
    /// bundle takes its place meanwhile, reads that one.
    ///
    /// # Errors
    /// When a file is missing or differs from its digest, or the manifest or the styles are not
    /// valid.
    pub fn open(dir: &Path) -> Result<Self, BundleError> {
        loop {
            let before = Self::digest_in(dir)?;
            match Self::open_once(dir) {
                Err(_) if Self::digest_in(dir)? != before => {}
                opened => return opened,
            }
        }
    }

    fn open_once(dir: &Path) -> Result<Self, BundleError> {
        let path = dir.join(MANIFEST_FILE);
        let bytes = std::fs::read(&path).map_err(BundleError::io("read", &path))?;
        let manifest = Manifest::parse(&bytes, &path)?;
        for (file, expected) in &manifest.files {
            verify(dir, file, expected)?;
        }
        for encoder in manifest.encoders.values() {
            check_external(dir, encoder, &manifest)?;
        }
        let styles = if manifest.files.contains_key(STYLES_FILE) {
            let path = dir.join(STYLES_FILE);
            let bytes = std::fs::read(&path).map_err(BundleError::io("read", &path))?;
            StyleBank::from_bytes(&bytes, manifest.geometry.style_len())
                .map_err(|source| BundleError::Styles { file: STYLES_FILE.to_owned(), source })?
        } else {
            StyleBank::default()
        };
        Ok(Self { dir: dir.to_owned(), manifest, digest: digest(&bytes), styles })
    }

    /// Returns the digest of the bundle in `dir` from its manifest alone, without verifying any
    /// file.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub fn digest_in(dir: &Path) -> Result<String, BundleError> {
        let path = dir.join(MANIFEST_FILE);
        Ok(digest(&std::fs::read(&path).map_err(BundleError::io("read", &path))?))
    }

    /// Returns the path of the graph of a precision.
    ///
    /// # Errors
    /// When the bundle has none; the error names those it has.
    pub fn encoder_path(&self, precision: Precision) -> Result<PathBuf, BundleError> {
        let held = &self.manifest.encoders;
        match held.get(&precision) {
            Some(file) => Ok(self.dir.join(file)),
            None => Err(BundleError::NoPrecision {
                asked: precision,
                held: held.keys().copied().collect(),
            }),
        }
    }

    /// Returns the tensors of an encoder, the graph in `onnx`, whose numbers lie in other files of
    /// the bundle. What is no graph has none, and is left to the engine, which refuses it.
    ///
    /// # Errors
    /// When the graph cannot be read.
    pub fn external_tensors(&self, onnx: &Path) -> Result<Vec<ExternalTensor>, BundleError> {
        match external::tensors(onnx) {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Ok(Vec::new()),
            tensors => tensors.map_err(BundleError::io("read", onnx)),
        }
    }

    /// Reads the numbers of one of [`Bundle::external_tensors`] that is f32, row-major.
    ///
    /// # Errors
    /// When its file cannot be read, or ends before.
    pub fn read_external(&self, tensor: &ExternalTensor) -> Result<Vec<f32>, BundleError> {
        let path = self.dir.join(&tensor.location);
        tensor.read_f32(&self.dir).map_err(BundleError::io("read", &path))
    }

    /// Returns the bytes of the weights of an encoder, in its graph in `onnx` and in other files.
    ///
    /// # Errors
    /// As [`Bundle::external_tensors`].
    pub fn encoder_bytes(&self, onnx: &Path) -> Result<EncoderBytes, BundleError> {
        let graph = std::fs::metadata(onnx).map_err(BundleError::io("read", onnx))?.len();
        let (shared, own): (Vec<_>, Vec<_>) =
            self.external_tensors(onnx)?.into_iter().partition(ExternalTensor::can_be_shared);
        let bytes = |tensors: &[ExternalTensor]| -> u64 {
            tensors.iter().filter_map(|tensor| tensor.length).fold(0, u64::saturating_add)
        };
        Ok(EncoderBytes { own: graph.saturating_add(bytes(&own)), shared: bytes(&shared) })
    }
}

/// Refuses a graph that takes numbers from a file without a digest. What is no graph is left to the
/// engine, which refuses it.
fn check_external(dir: &Path, encoder: &str, manifest: &Manifest) -> Result<(), BundleError> {
    let path = dir.join(encoder);
    let files = match external::files(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(()),
        files => files.map_err(BundleError::io("read", &path))?,
    };
    match files.into_iter().find(|file| !manifest.files.contains_key(file)) {
        Some(file) => Err(BundleError::UnlistedData { encoder: encoder.to_owned(), file }),
        None => Ok(()),
    }
}

fn verify(dir: &Path, file: &str, expected: &str) -> Result<(), BundleError> {
    let path = dir.join(file);
    if !path.is_file() {
        return Err(BundleError::Missing(file.to_owned()));
    }
    let found = file_digest(&path)?;
    if found != expected {
        return Err(BundleError::Digest {
            file: file.to_owned(),
            found,
            expected: expected.to_owned(),
        });
    }
    Ok(())
}

fn file_digest(path: &Path) -> Result<String, BundleError> {
    let mut file = File::open(path).map_err(BundleError::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut block).map_err(BundleError::io("read", path))? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&block[..read]),
        }
    }
}

/// The sha256 of some bytes, in hex.
fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
