//! Pictures of a table of colours. The library reads no such picture, so it is given a copy of the
//! file that calls the places in the table grey.

use std::io::Cursor;

use tiff::decoder::{Decoder, DecodingResult};
use tiff::tags::{PhotometricInterpretation, Tag};

use super::{Samples, Tiff, allowance, refused, rgb, samples, unreadable};
use crate::codec::limits::DecodeError;

/// Bytes of a file beyond two a pixel, of which a copy is made.
const MOST_BESIDE: usize = 4 << 20;

/// `[height, width, 3]`, the high byte of each entry of the table.
pub(super) fn decode(
    bytes: &[u8],
    mut decoder: Tiff<'_>,
    (width, height): (usize, usize),
) -> Result<Vec<u8>, DecodeError> {
    if bytes.len() > 2 * width * height + MOST_BESIDE {
        return Err(refused("it has a table of colours and is far larger than its picture"));
    }
    let table = decoder.get_tag(Tag::ColorMap).map_err(unreadable)?;
    let table = table.into_u16_vec().map_err(unreadable)?;
    let grey = called_grey(bytes).ok_or_else(|| refused("its directory cannot be read"))?;
    let decoder = Decoder::new(Cursor::new(&grey[..])).map_err(unreadable)?;
    let Samples { values, bits, each, .. } =
        samples(decoder.with_limits(allowance((width * height) as u64)))?;
    let (DecodingResult::U8(places), 1, 1 | 2 | 4 | 8) = (values, each, bits) else {
        return Err(refused("it has a table of colours, whose places are of 1, 2, 4 or 8 bits"));
    };
    let colours = 1 << bits;
    if table.len() != 3 * colours {
        let entries = table.len();
        return Err(refused(format!(
            "its table of colours has {entries} values, and {bits} bits need {}",
            3 * colours
        )));
    }
    let colour =
        |place: u8| [0, 1, 2].map(|c| (table[c * colours + usize::from(place)] >> 8) as u8);
    Ok(rgb::indices(&places, bits, width).flat_map(colour).collect())
}

/// The file, with another colour space in its first directory.
fn called_grey(bytes: &[u8]) -> Option<Vec<u8>> {
    let little = bytes.starts_with(b"II");
    let number = |at: usize, size: usize| {
        let part = bytes.get(at..at.checked_add(size)?)?;
        let digit = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        let number = match little {
            true => part.iter().rev().fold(0, digit),
            false => part.iter().fold(0, digit),
        };
        usize::try_from(number).ok()
    };
    let is_big = number(2, 2)? == 43;
    let (directory, count, entry) =
        if is_big { (number(8, 8)?, 8, 20) } else { (number(4, 4)?, 2, 12) };
    let entries = number(directory, count)?;
    let photometric = usize::from(Tag::PhotometricInterpretation.to_u16());
    let first = directory.checked_add(count)?;
    let at = (0..entries)
        .map_while(|index| first.checked_add(index.checked_mul(entry)?))
        .take_while(|&at| at < bytes.len())
        .find(|&at| number(at, 2) == Some(photometric))?;
    let value = at + entry - if is_big { 8 } else { 4 };
    let mut grey = bytes.to_vec();
    let space = PhotometricInterpretation::BlackIsZero.to_u16();
    let space = if little { space.to_le_bytes() } else { space.to_be_bytes() };
    grey.get_mut(value..value + 2)?.copy_from_slice(&space);
    Some(grey)
}
