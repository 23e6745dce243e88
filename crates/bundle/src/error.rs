//! Errors of reading and writing bundles. Every message names the file or field, its value, and
//! what is allowed.

#![expect(missing_docs, reason = "the messages say what variants and fields are")]

use std::path::{Path, PathBuf};

use super::Precision;

/// Why a bundle is rejected, or cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{path} is not a bundle manifest")]
    Manifest { path: PathBuf, source: serde_json::Error },
    #[error("schema is {found:?}, and this program reads {expected:?}")]
    Schema { found: String, expected: &'static str },
    #[error(
        "{field} is {value:?}: it must be letters, digits, '.', '_' or '-', and not begin with '.'"
    )]
    Name { field: &'static str, value: String },
    #[error("{field} of familiar is {value}, and must be {allowed}")]
    Familiar { field: &'static str, value: String, allowed: &'static str },
    #[error("file name {0:?} must be a plain name inside the bundle, without directories")]
    FileName(String),
    #[error("{0} is missing, though the manifest lists it")]
    Missing(String),
    #[error(
        "{file} has sha256 {found}, and the manifest says {expected}: the file was changed or \
        damaged"
    )]
    Digest { file: String, found: String, expected: String },
    #[error("encoders.{precision} is {file:?}, which files does not list")]
    UnlistedEncoder { precision: Precision, file: String },
    #[error("{encoder} takes numbers from {file:?}, which files does not list")]
    UnlistedData { encoder: String, file: String },
    #[error("encoders is empty: a bundle needs at least one precision")]
    NoEncoder,
    #[error(
        "no {asked} encoder: this bundle has {}",
        held.iter().map(Precision::to_string).collect::<Vec<_>>().join(", ")
    )]
    NoPrecision { asked: Precision, held: Vec<Precision> },
    #[error("{file} is not a valid style bank")]
    Styles { file: String, source: StylesError },
    #[error("{path} exists already; choose another version, or overwrite it")]
    Exists { path: PathBuf },
}

impl BundleError {
    /// Returns a function for `map_err` that adds action and path to an I/O error.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// Why a style bank is rejected.
#[derive(Debug, thiserror::Error)]
pub enum StylesError {
    #[error("not a safetensors file")]
    Format(#[from] safetensors::SafeTensorError),
    #[error("tensor {0} is missing")]
    Missing(&'static str),
    #[error("tensor {name} is {dtype:?} {shape:?}, and must be {expected}")]
    Shape { name: &'static str, dtype: safetensors::Dtype, shape: Vec<usize>, expected: String },
    #[error("a style has {found} numbers, and the model's half of embed_dim is {expected}")]
    StyleLength { found: usize, expected: usize },
    #[error("metadata {field} is {value:?}, and must be {expected}")]
    Metadata { field: &'static str, value: Option<String>, expected: String },
    #[error(
        "{name}[{index}] is {value}, and must be finite{}",
        if *.name == "source_std" { " and not negative" } else { "" }
    )]
    Value { name: &'static str, index: usize, value: f32 },
    #[error("style {style} has domain {domain}, and there are {domains} domains")]
    Domain { style: usize, domain: usize, domains: usize },
    #[error("domain {0:?} is listed twice")]
    RepeatedDomain(String),
}

/// Why weights are rejected.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("cannot {action} {path}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("not a safetensors file")]
    Format(#[from] safetensors::SafeTensorError),
    #[error("{name} is {dtype:?}, and must be F32, F16 or BF16")]
    Dtype { name: String, dtype: safetensors::Dtype },
    #[error("{name} is missing")]
    Missing { name: String },
    #[error(
        "{name} is a parameter of a Stylizing ViT, a later model of the same authors, which \
        encodes two tiles at once and cannot be a bundle: import weights of the ViT of Doerrich et \
        al. 2024"
    )]
    StylizingVit { name: String },
    #[error("{name} is not a parameter of this model")]
    Unknown { name: String },
    #[error("{name} has shape {found:?}, and must have {expected}")]
    Shape { name: String, found: Vec<usize>, expected: String },
    #[error("{name}[{index}] is {value}: weights must be finite")]
    Value { name: String, index: usize, value: f32 },
    #[error("{name} has shape {found:?}, and must be [1, grid² + 1, embed_dim]")]
    PositionShape { name: &'static str, found: Vec<usize> },
    #[error(
        "{name}[{index}] is {value}, and the sin-cos positions have {expected}: trained or other \
        positions are not supported"
    )]
    Position { name: &'static str, index: usize, value: f32, expected: f32 },
    #[error("no model has weights of these shapes")]
    Geometry(#[from] restain_method::GeometryError),
}
