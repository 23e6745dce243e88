//! The large fields of a message, sent from where they lie. tonic would copy them, a second time as
//! large as the answer, into memory that is new for every call.
//!
//! Protobuf allows fields in any order: what is left out of the message is written behind it, and
//! the length in front of it says so.

use std::collections::VecDeque;

use bytes::Bytes;

/// A flag for compression, and the length in four bytes, big-endian.
const PREFIX: usize = 5;
/// Fields of bytes are of wire type 2.
const LENGTH_DELIMITED: u64 = 2;

/// Fields of bytes by their numbers, in the order they are sent. A handler puts it among the
/// extensions of its response, of which there is one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct ZeroCopyFields(VecDeque<Bytes>);

impl ZeroCopyFields {
    #[must_use]
    pub(crate) fn field(mut self, number: u32, bytes: Bytes) -> Self {
        let mut head = Vec::new();
        varint(u64::from(number) << 3 | LENGTH_DELIMITED, &mut head);
        varint(bytes.len() as u64, &mut head);
        self.0.extend([head.into(), bytes]);
        self
    }

    /// The message's first piece, with the length of the whole.
    ///
    /// # Errors
    /// When the whole is longer than a message can say.
    pub(crate) fn announce(&self, first: Bytes) -> Result<Bytes, &'static str> {
        let (Some(&[flag, a, b, c, d]), false) = (first.first_chunk::<PREFIX>(), self.0.is_empty())
        else {
            return Ok(first);
        };
        let more: usize = self.0.iter().map(Bytes::len).sum();
        let whole = u32::from_be_bytes([a, b, c, d]) as usize + more;
        let [a, b, c, d] = u32::try_from(whole)
            .map_err(|_| "the answer is larger than one message can be")?
            .to_be_bytes();
        Ok([&[flag, a, b, c, d], &first[PREFIX..]].concat().into())
    }

    /// The next piece behind the message.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        std::iter::from_fn(|| self.0.pop_front()).find(|piece| !piece.is_empty())
    }
}

/// Seven bits a byte, the lowest first.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_reads_as_the_fields_it_stands_for() {
        let mut tail =
            ZeroCopyFields::default().field(7, vec![5; 300].into()).field(7, Bytes::new());
        let first = tail.announce(Bytes::from_static(&[0, 0, 0, 0, 2, 0x18, 0x01])).unwrap();
        let rest: Vec<u8> = std::iter::from_fn(|| tail.next()).flatten().collect();
        // Field 7 of wire type 2 is 0x3a; 300 is 0xac 0x02.
        assert_eq!(first[..], [0, 0, 0, 1, 51, 0x18, 0x01]);
        assert_eq!(rest[..3], [0x3a, 0xac, 0x02]);
        assert_eq!(rest[3..], [&[5; 300][..], &[0x3a, 0]].concat());
    }

    #[test]
    fn a_message_without_a_tail_stays_as_it_is() {
        let first = Bytes::from_static(&[0, 0, 0, 0, 1, 9]);
        assert_eq!(ZeroCopyFields::default().announce(first.clone()), Ok(first));
    }
}
