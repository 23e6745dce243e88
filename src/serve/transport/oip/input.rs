//! Tensors of a request, as the tiles that the pipeline takes. What a tensor says of itself is
//! believed only as far as its bytes bear it out.

use bytes::Bytes;

use super::encoding;
use crate::serve::error::Error;
use crate::serve::pipeline::TileInput;
use crate::serve::transport::base64_text;
use crate::serve::transport::bounds::check_items;
use crate::serve::transport::read_body::malformed;
use restain_bundle::codec::TileKey;

/// What a model takes.
pub(crate) const TILES: &str = "TILES";
pub(crate) const KEYS: &str = "KEYS";
pub(crate) const REFERENCES: &str = "REFERENCES";

const KEY_BYTES: i64 = TileKey::BYTES as i64;

/// A tensor as it came.
pub(crate) struct Input {
    pub name: String,
    pub datatype: String,
    pub shape: Vec<i64>,
    pub data: Data,
}

pub(crate) enum Data {
    /// As the binary extension and `raw_input_contents` have it.
    Raw(Bytes),
    /// The elements of a BYTES tensor.
    Elements(Vec<Bytes>),
    /// The same, as JSON can have them: pictures in base64, keys in hex.
    Texts(Vec<String>),
}

/// Tiles, then those that came as keys, and references.
pub(crate) struct Pictures {
    pub tiles: Vec<TileInput>,
    pub references: Vec<TileInput>,
}

/// # Errors
/// `malformed_request`, with the tensor at fault.
pub(crate) fn pictures(inputs: Vec<Input>) -> Result<Pictures, Error> {
    let (mut tiles, mut keys, mut references) = (None, None, None);
    for input in inputs {
        let name = input.name.clone();
        let (list, read) = match name.as_str() {
            TILES => (&mut tiles, tiles_of("tile", input)?),
            KEYS => (&mut keys, keys_of(input)?),
            REFERENCES => (&mut references, tiles_of("reference", input)?),
            _ => {
                return Err(malformed(format!(
                    "there is no input `{name}`, and inputs are {TILES}, {KEYS} and {REFERENCES}"
                )));
            }
        };
        if list.replace(read).is_some() {
            return Err(malformed(format!("the input {name} is given twice")));
        }
    }
    let mut tiles = tiles.unwrap_or_default();
    tiles.extend(keys.unwrap_or_default());
    Ok(Pictures { tiles, references: references.unwrap_or_default() })
}

fn tiles_of(list: &'static str, input: Input) -> Result<Vec<TileInput>, Error> {
    let base64 = |index: usize, text: &str| {
        base64_text::decode(text)
            .map_err(|error| malformed(format!("{list} {index} {error}")).at(list, index))
    };
    match input.datatype.as_str() {
        "UINT8" => pixels(input),
        "BYTES" => Ok(elements(input, base64)?.into_iter().map(TileInput::File).collect()),
        _ => Err(input.wrong_type()),
    }
}

/// Tiles of one tensor, where they lie.
fn pixels(input: Input) -> Result<Vec<TileInput>, Error> {
    let &[count @ (0..), height @ (1..), width @ (1..), 3] = &input.shape[..] else {
        return Err(malformed(format!(
            "{} is UINT8 {:?}, and must be [n, height, width, 3]",
            input.name, input.shape
        )));
    };
    let mut data = input.raw()?;
    let (Some(size), true) =
        (tile_bytes(height, width), fits(&[count, height, width, 3], data.len()))
    else {
        return Err(input.wrong_size(data.len()));
    };
    let (width, height) = (width as usize, height as usize);
    check_items(&input.name, data.len() / size)?;
    let mut tiles = Vec::new();
    while !data.is_empty() {
        tiles.push(TileInput::Pixels { width, height, pixels: data.split_to(size) });
    }
    Ok(tiles)
}

fn keys_of(input: Input) -> Result<Vec<TileInput>, Error> {
    match input.datatype.as_str() {
        "UINT8" => {
            let &[count @ (0..), KEY_BYTES] = &input.shape[..] else {
                return Err(malformed(format!(
                    "{KEYS} is UINT8 {:?}, and must be [m, {KEY_BYTES}]",
                    input.shape
                )));
            };
            let data = input.raw()?;
            if !fits(&[count, KEY_BYTES], data.len()) {
                return Err(input.wrong_size(data.len()));
            }
            check_items(KEYS, data.len() / TileKey::BYTES)?;
            Ok(data
                .as_chunks()
                .0
                .iter()
                .map(|bytes| TileInput::Key(TileKey::from_bytes(*bytes)))
                .collect())
        }
        "BYTES" => {
            let elements = elements(input, |_, text| Ok(Bytes::copy_from_slice(text.as_bytes())))?;
            elements
                .iter()
                .enumerate()
                .map(|(index, bytes)| key(index, bytes).map(TileInput::Key))
                .collect()
        }
        _ => Err(input.wrong_type()),
    }
}

/// Its bytes, or the hex of them.
fn key(index: usize, bytes: &[u8]) -> Result<TileKey, Error> {
    if let Ok(bytes) = bytes.try_into() {
        return Ok(TileKey::from_bytes(bytes));
    }
    let text = String::from_utf8_lossy(bytes);
    text.trim().parse().map_err(|error| malformed(format!("key {index}: {error}")).at("key", index))
}

/// The elements of a BYTES tensor; `read` makes one of its text in JSON.
fn elements(
    input: Input,
    read: impl Fn(usize, &str) -> Result<Bytes, Error>,
) -> Result<Vec<Bytes>, Error> {
    let Input { name, shape, data, .. } = input;
    let elements = match data {
        Data::Raw(bytes) => {
            encoding::split(bytes).map_err(|what| malformed(format!("{name} {what}")))?
        }
        Data::Elements(elements) => elements,
        Data::Texts(texts) => texts
            .iter()
            .enumerate()
            .map(|(index, text)| read(index, text))
            .collect::<Result<_, _>>()?,
    };
    if shape.is_empty() || !fits(&shape, elements.len()) {
        return Err(malformed(format!(
            "{name} is BYTES {shape:?} and has {} elements",
            elements.len()
        )));
    }
    Ok(elements)
}

impl Input {
    /// The bytes of a UINT8 tensor.
    fn raw(&self) -> Result<Bytes, Error> {
        if let Data::Raw(bytes) = &self.data {
            Ok(bytes.clone())
        } else {
            Err(malformed(format!("the data of {} are no numbers", self.name)))
        }
    }

    fn wrong_type(&self) -> Error {
        malformed(format!("{} is {}, and must be UINT8 or BYTES", self.name, self.datatype))
    }

    fn wrong_size(&self, bytes: usize) -> Error {
        malformed(format!("{} is UINT8 {:?} and has {bytes} bytes", self.name, self.shape))
    }
}

fn tile_bytes(height: i64, width: i64) -> Option<usize> {
    usize::try_from(height.checked_mul(width)?.checked_mul(3)?).ok()
}

/// Whether a shape is that of so many elements.
fn fits(shape: &[i64], elements: usize) -> bool {
    let product = shape
        .iter()
        .try_fold(1_i64, |product, &size| product.checked_mul(size).filter(|_| size >= 0));
    product.and_then(|product| usize::try_from(product).ok()) == Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, datatype: &str, shape: &[i64], data: Data) -> Input {
        Input { name: name.to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec(), data }
    }

    fn raw(bytes: usize) -> Data {
        Data::Raw(Bytes::from(vec![7; bytes]))
    }

    #[test]
    fn tiles_lie_where_they_came() {
        let data = Bytes::from(vec![7; 2 * 4 * 5 * 3]);
        let read =
            pictures(vec![input(TILES, "UINT8", &[2, 4, 5, 3], Data::Raw(data.clone()))]).unwrap();
        let TileInput::Pixels { width: 5, height: 4, pixels } = &read.tiles[1] else {
            panic!("no pixels")
        };
        assert_eq!(pixels.as_ptr(), data[60..].as_ptr());
        assert!(
            pictures(vec![input(TILES, "UINT8", &[0, 4, 5, 3], raw(0))]).unwrap().tiles.is_empty()
        );
    }

    #[test]
    fn keys_come_behind_tiles_in_any_of_three_forms() {
        let key = TileKey::from_bytes([7; 32]);
        let hex = key.to_string();
        for (datatype, shape, data) in [
            ("UINT8", &[1, 32][..], raw(32)),
            ("BYTES", &[1], Data::Elements(vec![Bytes::from(vec![7; 32])])),
            ("BYTES", &[1, 1], Data::Elements(vec![Bytes::from(hex.clone())])),
            ("BYTES", &[1], Data::Texts(vec![hex.clone()])),
        ] {
            let read = pictures(vec![
                input(KEYS, datatype, shape, data),
                input(TILES, "UINT8", &[1, 1, 1, 3], raw(3)),
            ])
            .unwrap();
            assert!(matches!(&read.tiles[..], [TileInput::Pixels { .. },
                    TileInput::Key(read)] if *read == key));
        }
    }

    #[test]
    fn shapes_that_lie_are_refused_and_nothing_is_allocated_for_them() {
        const HUGE: i64 = i64::MAX;
        for (name, datatype, shape, data, said) in [
            (
                TILES,
                "UINT8",
                &[1, 2, 2, 3][..],
                raw(11),
                "TILES is UINT8 [1, 2, 2, 3] and has 11 bytes",
            ),
            (TILES, "UINT8", &[HUGE, HUGE, HUGE, 3], raw(12), "has 12 bytes"),
            (TILES, "UINT8", &[HUGE, 1, 1, 3], raw(0), "has 0 bytes"),
            (TILES, "UINT8", &[1 << 62, 4, 1, 3], raw(0), "has 0 bytes"),
            (TILES, "UINT8", &[-1, 2, 2, 3], raw(12), "must be [n, height, width, 3]"),
            (TILES, "UINT8", &[1, 0, 2, 3], raw(0), "must be [n, height, width, 3]"),
            (TILES, "UINT8", &[2, 2, 3], raw(12), "must be [n, height, width, 3]"),
            (TILES, "FP32", &[1, 2, 2, 3], raw(48), "TILES is FP32, and must be UINT8 or BYTES"),
            (TILES, "UINT8", &[1, 1, 1, 3], Data::Texts(vec![String::new()]), "no numbers"),
            (TILES, "BYTES", &[2], raw(4), "TILES has 0 bytes left for element 0"),
            (TILES, "BYTES", &[HUGE], Data::Elements(Vec::new()), "has 0 elements"),
            (TILES, "BYTES", &[-1, -1], Data::Elements(vec![Bytes::new()]), "has 1 elements"),
            (TILES, "BYTES", &[], Data::Elements(vec![Bytes::new()]), "has 1 elements"),
            (TILES, "BYTES", &[1], Data::Texts(vec!["?".to_owned()]), "tile 0 is not base64"),
            (KEYS, "UINT8", &[1, 31], raw(31), "must be [m, 32]"),
            (KEYS, "UINT8", &[2, 32], raw(32), "has 32 bytes"),
            (KEYS, "BYTES", &[1], Data::Texts(vec!["7".to_owned()]), "key 0"),
            ("MASK", "UINT8", &[1], raw(1), "no input `MASK`"),
        ] {
            let error = pictures(vec![input(name, datatype, shape, data)]).err().unwrap();
            assert!(error.detail.contains(said), "{said}: {error}");
        }
        let twice = || input(TILES, "UINT8", &[0, 1, 1, 3], raw(0));
        assert!(
            pictures(vec![twice(), twice()]).err().unwrap().detail.contains("TILES is given twice")
        );
    }
}
