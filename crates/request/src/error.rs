//! Why a field cannot be read.

/// What is wrong with a field, for programs: a transport has a code for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The field does not exist, is given twice, or has a value of another type.
    Malformed,
    /// `variants` is out of range.
    Variants,
    /// `strength` is out of range.
    Strength,
    /// `style.spread` is out of range.
    Spread,
    /// `mpp` is out of range.
    Mpp,
    /// `seed` is out of range.
    Seed,
    /// `output.quality` is out of range.
    Quality,
    /// `timeout_ms` is out of range.
    Timeout,
    /// `styles` is out of range.
    Styles,
    /// A blend has too many parts, or a weight that cannot be one.
    Blend,
    /// A part of a blend names both a style and a domain, or neither.
    StyleConflict,
}

/// Why a field cannot be read: its name as the caller spelt it, its value, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Error {
    pub fault: Fault,
    pub detail: String,
}

impl Error {
    pub(crate) fn new(fault: Fault, detail: impl Into<String>) -> Self {
        Self { fault, detail: detail.into() }
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Fault::Malformed, detail)
    }
}
