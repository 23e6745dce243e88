//! The codec of every call of `proto/`: prost's, behind a count of what a message holds.
//!
//! prost makes a value of 32 bytes and more of each two bytes of an empty list's item, so that a
//! message of 62 MiB took gigabytes. Here the message is walked first, along its schema and without
//! allocating: items and fields are counted, and so are the bytes that become values of their own.
//! Pictures and pixels are skipped, since they are used where they lie.

use std::marker::PhantomData;

use bytes::Buf;
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use super::status::status;
use crate::serve::transport::read_body::malformed;

/// Most fields and items of one message, with those of the messages in it.
const MAX_FIELDS: usize = 16_384;
/// Most bytes of texts and packed numbers, which are copied, and numbers four times as large.
const MAX_COPIED: usize = 4 << 20;

/// What a field with a length is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A message, by its place in [`MESSAGES`].
    Message(usize),
    /// Used from where it lies.
    Bytes,
}
use Kind::{Bytes, Message as Inner};

/// Every message of `proto/` by name, with those of its fields that are messages or bytes.
const MESSAGES: &[(&str, &[(u64, Kind)])] = include!(concat!(env!("OUT_DIR"), "/messages.rs"));

/// Encodes as prost does; decodes what is not too much.
pub(crate) struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

pub(crate) struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        check::<U>(source.chunk()).map_err(|what| status(malformed(what)))?;
        let read = U::decode(source);
        read.map(Some).map_err(|error| status(malformed(format!("the message: {error}"))))
    }
}

/// Counts what a message of type `U` holds.
///
/// # Errors
/// In words, when it is too much. What cannot be read is left to prost.
pub(crate) fn check<U: Name>(bytes: &[u8]) -> Result<(), String> {
    let name = U::full_name();
    let place = MESSAGES.iter().position(|(message, _)| *message == name);
    let place = place.expect("the table and the messages come from the same files");
    let mut left = Left { fields: MAX_FIELDS, copied: MAX_COPIED };
    left.walk(bytes, place).map_or(Ok(()), Err)
}

struct Left {
    fields: usize,
    copied: usize,
}

impl Left {
    /// Returns what is too much; nothing as well where the bytes end or make no sense.
    fn walk(&mut self, mut bytes: &[u8], place: usize) -> Option<String> {
        let (_, fields) = MESSAGES[place];
        while !bytes.is_empty() {
            let tag = varint(&mut bytes)?;
            let Some(left) = self.fields.checked_sub(1) else {
                return Some(format!("the message holds more than {MAX_FIELDS} values"));
            };
            self.fields = left;
            let skipped = match tag & 7 {
                0 => {
                    varint(&mut bytes)?;
                    0
                }
                1 => 8,
                5 => 4,
                2 => usize::try_from(varint(&mut bytes)?).ok()?,
                _ => return None,
            };
            let (field, rest) = bytes.split_at_checked(skipped)?;
            bytes = rest;
            if tag & 7 != 2 {
                continue;
            }
            let kind = fields.iter().find(|(number, _)| *number == tag >> 3);
            match kind.map(|(_, kind)| *kind) {
                Some(Inner(inner)) => {
                    if let Some(what) = self.walk(field, inner) {
                        return Some(what);
                    }
                }
                Some(Bytes) => {}
                None => {
                    let Some(left) = self.copied.checked_sub(field.len()) else {
                        return Some(format!(
                            "the message holds more than {MAX_COPIED} bytes of texts and typed \
                             numbers: send pixels as bytes (`raw_input_contents`, `pixels.data`)"
                        ));
                    };
                    self.copied = left;
                }
            }
        }
        None
    }
}

/// The next number; nothing where the bytes end within it.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (at, &byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::transport::{grpc, oip};

    #[test]
    fn items_are_counted_before_they_are_made() {
        type Augment = grpc::proto::AugmentRequest;
        let with = |images: usize| {
            let images = vec![bytes::Bytes::new(); images];
            let tiles = grpc::proto::Tiles { images, ..grpc::proto::Tiles::default() };
            Augment { tiles: Some(tiles), ..Augment::default() }.encode_to_vec()
        };
        assert!(check::<Augment>(&with(MAX_FIELDS - 1)).is_ok());
        assert!(check::<Augment>(&with(MAX_FIELDS)).unwrap_err().contains("16384 values"));
        // A field of the message itself, by the million: `inputs`, empty.
        let inputs = [0x2a, 0].repeat(1_000_000);
        assert!(check::<oip::proto::ModelInferRequest>(&inputs).is_err());
    }

    #[test]
    fn pixels_are_passed_over_whatever_they_look_like() {
        type Augment = grpc::proto::AugmentRequest;
        let pixels =
            grpc::proto::Pixels { height: 2000, width: 2000, data: vec![8; 12_000_000].into() };
        let tiles = grpc::proto::Tiles { pixels: Some(pixels), ..grpc::proto::Tiles::default() };
        let request = Augment { tiles: Some(tiles), ..Augment::default() };
        assert_eq!(check::<Augment>(&request.encode_to_vec()), Ok(()));
        let request = Augment { model: "m".repeat(MAX_COPIED + 1), ..Augment::default() };
        assert!(check::<Augment>(&request.encode_to_vec()).unwrap_err().contains("texts"));
    }

    #[test]
    fn what_makes_no_sense_is_left_to_prost() {
        for bytes in [&[0xFF_u8; 12][..], &[0x0A, 5, 1], &[0x0B], &[0x0A]] {
            assert_eq!(check::<grpc::proto::AugmentRequest>(bytes), Ok(()));
        }
    }
}
