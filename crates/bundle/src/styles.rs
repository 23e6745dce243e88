//! The style bank: the styles of a bundle, by domain, in `styles.safetensors`.
//!
//! | tensor | type | |
//! |---|---|---|
//! | `characteristics` | F32 [K, S] | one style a row |
//! | `source_mean`, `source_std` | F32 [K, 3] | colour statistics of the source tile, pixels in 0..1, for colour matching |
//! | `domain` | U32 [K] | index into metadata `domains`, a JSON list of names |
//!
//! There is exactly one metadata field: the order of several is not defined, and equal styles must
//! have one digest.

use std::collections::{BTreeSet, HashMap};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::StylesError;
use restain_method::Style;
use restain_method::color::ChannelStats;

/// The file name of the style bank in a bundle.
pub const STYLES_FILE: &str = "styles.safetensors";

/// Styles by domain. May be empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StyleBank {
    /// The names of the domains, each once.
    pub domains: Vec<String>,
    /// The styles.
    pub entries: Vec<StyleEntry>,
}

/// One style of a bank.
#[derive(Clone, Debug, PartialEq)]
pub struct StyleEntry {
    /// `<domain>/<n>`, n counted from 0 within the domain.
    pub id: String,
    /// Index into [`StyleBank::domains`].
    pub domain: usize,
    /// The characteristics, `[S]`.
    pub style: Style,
    /// Colour statistics of the tile that the style was taken from.
    pub source: ChannelStats,
}

impl StyleBank {
    /// Appends a style to `domain`, and the domain when it is new. The style gets the next id of
    /// the domain.
    pub fn push(&mut self, domain: &str, style: Style, source: ChannelStats) {
        let index = self.domains.iter().position(|name| name == domain).unwrap_or_else(|| {
            self.domains.push(domain.to_owned());
            self.domains.len() - 1
        });
        let n = self.entries.iter().filter(|entry| entry.domain == index).count();
        self.entries.push(StyleEntry { id: format!("{domain}/{n}"), domain: index, style, source });
    }

    /// Parses `styles.safetensors` for a model whose h is `half`.
    ///
    /// # Errors
    /// When a tensor is missing, has another type or shape, or holds a value that no style can
    /// have.
    pub fn from_bytes(bytes: &[u8], half: usize) -> Result<Self, StylesError> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let file = SafeTensors::deserialize(bytes)?;
        let domains =
            parse_domains(header.metadata().as_ref().and_then(|map| map.get("domains")).cloned())?;

        if let &[_, found] = file.tensor("characteristics")?.shape()
            && found != half
        {
            return Err(StylesError::StyleLength { found, expected: half });
        }
        let characteristics = tensor(&file, "characteristics", Dtype::F32, half)?;
        let styles = characteristics.len() / (4 * half);
        let mean =
            floats("source_mean", tensor_rows(&file, "source_mean", Dtype::F32, &[styles, 3])?)?;
        let std =
            floats("source_std", tensor_rows(&file, "source_std", Dtype::F32, &[styles, 3])?)?;
        let domain = tensor_rows(&file, "domain", Dtype::U32, &[styles])?;

        let mut bank = Self { domains: domains.clone(), entries: Vec::with_capacity(styles) };
        let numbers = floats("characteristics", characteristics)?;
        let three = |values: &[f32], style: usize| {
            [values[3 * style], values[3 * style + 1], values[3 * style + 2]]
        };
        for (style, (row, index)) in
            numbers.chunks_exact(half).zip(domain.chunks_exact(4)).enumerate()
        {
            let index =
                u32::from_le_bytes(index.try_into().expect("chunks of four bytes")) as usize;
            let name = domains.get(index).ok_or(StylesError::Domain {
                style,
                domain: index,
                domains: domains.len(),
            })?;
            bank.push(
                name,
                Style(row.to_vec()),
                ChannelStats { mean: three(&mean, style), std: three(&std, style) },
            );
        }
        Ok(bank)
    }

    /// Returns the bytes of `styles.safetensors`.
    ///
    /// # Errors
    /// When a style does not have `half` numbers.
    pub fn to_bytes(&self, half: usize) -> Result<Vec<u8>, StylesError> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.style.0.len() != half) {
            return Err(StylesError::StyleLength { found: entry.style.0.len(), expected: half });
        }
        let styles = self.entries.len();
        let bytes = |numbers: Vec<f32>| -> Vec<u8> {
            numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
        };
        let characteristics =
            bytes(self.entries.iter().flat_map(|entry| entry.style.0.iter().copied()).collect());
        let mean = bytes(self.entries.iter().flat_map(|entry| entry.source.mean).collect());
        let std = bytes(self.entries.iter().flat_map(|entry| entry.source.std).collect());
        let domain: Vec<u8> =
            self.entries.iter().flat_map(|entry| (entry.domain as u32).to_le_bytes()).collect();
        let tensors = [
            ("characteristics", TensorView::new(Dtype::F32, vec![styles, half], &characteristics)?),
            ("source_mean", TensorView::new(Dtype::F32, vec![styles, 3], &mean)?),
            ("source_std", TensorView::new(Dtype::F32, vec![styles, 3], &std)?),
            ("domain", TensorView::new(Dtype::U32, vec![styles], &domain)?),
        ];
        let domains =
            serde_json::to_string(&self.domains).expect("a list of strings is always JSON");
        let metadata = HashMap::from([("domains".to_owned(), domains)]);
        Ok(safetensors::serialize(tensors, Some(metadata))?)
    }
}

fn parse_domains(value: Option<String>) -> Result<Vec<String>, StylesError> {
    let Some(domains) =
        value.as_deref().and_then(|text| serde_json::from_str::<Vec<String>>(text).ok())
    else {
        return Err(StylesError::Metadata {
            field: "domains",
            value,
            expected: "a JSON list of names".to_owned(),
        });
    };
    let mut seen = BTreeSet::new();
    match domains.iter().find(|domain| !seen.insert(domain.as_str())) {
        Some(domain) => Err(StylesError::RepeatedDomain(domain.clone())),
        None => Ok(domains),
    }
}

/// The bytes of a tensor [K, `columns`] for any K.
fn tensor<'a>(
    file: &SafeTensors<'a>,
    name: &'static str,
    dtype: Dtype,
    columns: usize,
) -> Result<&'a [u8], StylesError> {
    let view = file.tensor(name).map_err(|_| StylesError::Missing(name))?;
    match view.shape() {
        [_, found] if *found != columns => {
            Err(StylesError::StyleLength { found: *found, expected: columns })
        }
        [_, _] if view.dtype() == dtype => Ok(view.data()),
        shape => {
            let expected = format!("{dtype:?} [styles, {columns}]");
            Err(StylesError::Shape { name, dtype: view.dtype(), shape: shape.to_vec(), expected })
        }
    }
}

/// The bytes of a tensor of exactly `shape`.
fn tensor_rows<'a>(
    file: &SafeTensors<'a>,
    name: &'static str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<&'a [u8], StylesError> {
    let view = file.tensor(name).map_err(|_| StylesError::Missing(name))?;
    if view.shape() != shape || view.dtype() != dtype {
        let expected = format!("{dtype:?} {shape:?}");
        return Err(StylesError::Shape {
            name,
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            expected,
        });
    }
    Ok(view.data())
}

fn floats(name: &'static str, bytes: &[u8]) -> Result<Vec<f32>, StylesError> {
    let numbers: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().expect("chunks of four bytes")))
        .collect();
    match numbers
        .iter()
        .position(|&number| !number.is_finite() || (name == "source_std" && number < 0.0))
    {
        Some(index) => Err(StylesError::Value { name, index, value: numbers[index] }),
        None => Ok(numbers),
    }
}
