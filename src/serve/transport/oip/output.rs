//! An answer as tensors: those that were asked for, in that order.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::encoding;
use super::parameters::{Parameters, Value};
use crate::serve::app::App;
use crate::serve::error::Error;
use crate::serve::pipeline::{Answer, render};
use crate::serve::transport::read_body::malformed;
use restain_bundle::codec::{ImageFormat, TileKey};
use restain_request::Choice;

/// What a model gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// `UINT8 [n, K, height, width, 3]`; `BYTES [n, K]`, a PNG in each element, when tiles are of
    /// several sizes.
    Variants,
    /// `BYTES [n, K]`: the bank's id of each variant's style, as in the provenance of the other
    /// transports; empty where there is none.
    StyleIds,
    /// `UINT8 [n, 32]`: what each tile can be named by from now on.
    TileKeys,
    /// `FP32 [n]`: the PSNR of each tile's own reconstruction, dB; 0 where the method works on
    /// pixels.
    Fidelity,
}

pub(crate) struct Tensor {
    pub output: Output,
    pub shape: Vec<i64>,
    pub data: TensorData,
}

pub(crate) enum TensorData {
    Numbers(Bytes),
    Texts(Vec<String>),
    /// Files; in JSON as base64.
    Pictures(Vec<Vec<u8>>),
    Floats(Vec<f32>),
}

impl Output {
    pub(crate) const ALL: [Self; 4] =
        [Self::Variants, Self::StyleIds, Self::TileKeys, Self::Fidelity];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Variants => "VARIANTS",
            Self::StyleIds => "STYLE_IDS",
            Self::TileKeys => "TILE_KEYS",
            Self::Fidelity => "FIDELITY",
        }
    }

    /// Of most answers: see [`Tensor::datatype`].
    pub(crate) fn datatype(self) -> &'static str {
        match self {
            Self::Variants | Self::TileKeys => "UINT8",
            Self::StyleIds => "BYTES",
            Self::Fidelity => "FP32",
        }
    }

    /// Those that a request names; all when it names none.
    ///
    /// # Errors
    /// `malformed_request`, with the name that is none, or is there twice.
    pub(crate) fn wanted<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Vec<Self>, Error> {
        let mut wanted = Vec::new();
        for name in names {
            let output =
                Self::ALL.into_iter().find(|output| output.name() == name).ok_or_else(|| {
                    let known = Self::ALL.map(Self::name).join(", ");
                    malformed(format!("unknown output `{name}`; the outputs are {known}"))
                })?;
            if wanted.contains(&output) {
                return Err(malformed(format!("the output {name} is asked for twice")));
            }
            wanted.push(output);
        }
        Ok(if wanted.is_empty() { Self::ALL.to_vec() } else { wanted })
    }

    /// `pictures`, `[tile][variant]`, are the variants where sizes are mixed.
    fn of(self, answer: &Answer, pictures: &mut Vec<Vec<Vec<u8>>>) -> Tensor {
        let tiles = answer.tiles.len() as i64;
        let each = vec![tiles, answer.tiles[0].variants.len() as i64];
        let (shape, data) = match self {
            Self::Variants => match answer.tensor_shape() {
                Some(shape) => {
                    let shape = shape.map(|size| size as i64).to_vec();
                    (shape, TensorData::Numbers(answer.pixels.clone()))
                }
                None => {
                    let pictures = std::mem::take(pictures).into_iter().flatten();
                    (each, TensorData::Pictures(pictures.collect()))
                }
            },
            Self::StyleIds => {
                let variants = answer.tiles.iter().flat_map(|tile| &tile.variants);
                let ids = variants.map(|variant| variant.origin.style.clone().unwrap_or_default());
                (each, TensorData::Texts(ids.collect()))
            }
            Self::TileKeys => {
                let mut keys = BytesMut::with_capacity(answer.tiles.len() * TileKey::BYTES);
                answer.tiles.iter().for_each(|tile| keys.extend_from_slice(tile.key.as_bytes()));
                (vec![tiles, TileKey::BYTES as i64], TensorData::Numbers(keys.freeze()))
            }
            Self::Fidelity => {
                let fidelity = answer.tiles.iter().map(|tile| tile.fidelity().unwrap_or_default());
                (vec![tiles], TensorData::Floats(fidelity.collect()))
            }
        };
        Tensor { output: self, shape, data }
    }
}

/// The tensors that are wanted of an answer; variants of mixed sizes are compressed, on CPU
/// threads.
///
/// # Errors
/// `internal`, when a picture cannot be written.
pub(super) async fn tensors(
    app: &App,
    answer: Answer,
    wanted: Vec<Output>,
) -> Result<(Arc<Answer>, Vec<Tensor>), Error> {
    let answer = Arc::new(answer);
    let is_packed = wanted.contains(&Output::Variants) && answer.tensor_shape().is_none();
    let mut pictures = match is_packed {
        true => render::pictures(&app.cpu, &answer, ImageFormat::Png).await?,
        false => Vec::new(),
    };
    let tensors = wanted.into_iter().map(|output| output.of(&answer, &mut pictures)).collect();
    Ok((answer, tensors))
}

impl Tensor {
    pub(crate) fn datatype(&self) -> &'static str {
        match &self.data {
            TensorData::Pictures(_) => "BYTES",
            _ => self.output.datatype(),
        }
    }

    /// As the binary extension and `raw_output_contents` have it.
    pub(crate) fn raw(&self) -> Bytes {
        match &self.data {
            TensorData::Numbers(bytes) => bytes.clone(),
            TensorData::Texts(texts) => encoding::join(texts),
            TensorData::Pictures(pictures) => encoding::join(pictures),
            TensorData::Floats(floats) => floats.iter().flat_map(|f| f.to_le_bytes()).collect(),
        }
    }
}

/// What, with a tile's key and the index, makes a variant again.
pub(super) fn parameters(answer: &Answer) -> Parameters {
    let about = &answer.about;
    let method = serde_json::to_value(about.method)
        .ok()
        .and_then(|method| method.as_str().map(str::to_owned));
    let seed = Value::Integer(about.seed.into());
    let texts = [("bundle", about.bundle.clone()), ("method", method.unwrap_or_default())];
    let detail = about.detail.map(|detail| ("detail", Choice::name(detail).to_owned()));
    let texts = texts.into_iter().chain(detail);
    let texts = texts.map(|(name, text)| (name.to_owned(), Value::Text(text)));
    std::iter::once(("seed".to_owned(), seed)).chain(texts).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_those_that_are_named() {
        let wanted = |names: &[&str]| Output::wanted(names.iter().copied());
        assert_eq!(wanted(&[]).unwrap(), Output::ALL);
        assert_eq!(
            wanted(&["TILE_KEYS", "VARIANTS"]).unwrap(),
            [Output::TileKeys, Output::Variants]
        );
        assert!(wanted(&["VARIANT"]).unwrap_err().detail.contains("STYLE_IDS"));
        assert!(wanted(&["VARIANTS", "VARIANTS"]).unwrap_err().detail.contains("twice"));
    }
}
