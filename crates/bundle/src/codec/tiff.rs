//! What the inside of a TIFF promises, judged before anything of it is unpacked.
//!
//! The file's header has one size; its strips and tiles have their own, and so has a JPEG in each of
//! them. The decoder takes memory and time for those. Strips that all name the same bytes make a
//! small file cost what a large one does.

use std::io::Cursor;

use image::error::{DecodingError, ImageFormatHint};
use image::{ImageError, ImageFormat};
use tiff::decoder::{ChunkType, Decoder};
use tiff::tags::{CompressionMethod, Tag};

/// Bytes that all strips together may have, in sizes of the file: a tool may share one strip.
const MAX_FILES: u64 = 2;
/// Pixels of a tile of the file, where the picture is smaller than its tiles.
const MAX_TILE_PIXELS: u64 = 1 << 20;

/// Refuses a file whose strips or tiles promise more than the file and the picture are.
pub(super) fn check(bytes: &[u8], (width, height): (u32, u32)) -> Result<(), ImageError> {
    let refused = |reason: String| {
        let hint = ImageFormatHint::Exact(ImageFormat::Tiff);
        ImageError::Decoding(DecodingError::new(hint, reason))
    };
    let unreadable = |error: tiff::TiffError| refused(error.to_string());
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(unreadable)?;
    let pixels = u64::from(width) * u64::from(height);
    let (chunk_width, chunk_height) = decoder.chunk_dimensions();
    let tile_pixels = u64::from(chunk_width) * u64::from(chunk_height);
    if tile_pixels > MAX_TILE_PIXELS.max(2 * pixels) {
        return Err(refused(format!(
            "its tiles are {chunk_width}×{chunk_height} pixels, and the picture is {width}×{height}"
        )));
    }
    let (offsets, lengths) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let lengths = decoder.get_tag_u64_vec(lengths).map_err(unreadable)?;
    let promised = lengths.iter().fold(0_u64, |sum, &length| sum.saturating_add(length));
    let most = MAX_FILES * bytes.len() as u64;
    if promised > most {
        return Err(refused(format!(
            "its strips have {promised} bytes together, and the file has {}",
            bytes.len()
        )));
    }
    let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression).map_err(unreadable)?;
    if compression != Some(CompressionMethod::ModernJPEG.to_u16()) {
        return Ok(());
    }
    if let Some(tables) = decoder.find_tag(Tag::JPEGTables).map_err(unreadable)?
        && !sizes(&tables.into_u8_vec().map_err(unreadable)?).is_empty()
    {
        return Err(refused("its JPEG tables hold a picture".to_owned()));
    }
    let offsets = decoder.get_tag_u64_vec(offsets).map_err(unreadable)?;
    for (&offset, &length) in offsets.iter().zip(&lengths) {
        let end = offset.saturating_add(length).min(bytes.len() as u64) as usize;
        let strip = bytes.get(offset as usize..end).unwrap_or_default();
        let fits = |&(width, height): &(u32, u32)| width <= chunk_width && height <= chunk_height;
        if let Some((width, height)) = sizes(strip).into_iter().find(|size| !fits(size)) {
            return Err(refused(format!(
                "a JPEG in it is {width}×{height} pixels, and its strips or tiles are {chunk_width}×{chunk_height}"
            )));
        }
    }
    Ok(())
}

/// Every size that a JPEG announces. Before its first scan the segments are walked, so that what
/// stands in a comment or a thumbnail is none; after it, markers stand out of the compressed bytes.
fn sizes(jpeg: &[u8]) -> Vec<(u32, u32)> {
    let mut sizes = Vec::new();
    let (mut at, mut scanned) = (0, false);
    while let Some(&[first, marker]) = jpeg.get(at..).and_then(|rest| rest.first_chunk::<2>()) {
        if first != 0xFF || matches!(marker, 0x00 | 0x01 | 0xD0..=0xD9 | 0xFF) {
            at += 1;
            continue;
        }
        let number = |at: usize| {
            jpeg.get(at..at + 2).map_or(0, |two| u32::from(u16::from_be_bytes([two[0], two[1]])))
        };
        // Start of frame: all but those that define tables.
        if matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC) {
            sizes.push((number(at + 7), number(at + 5)));
        }
        scanned |= marker == 0xDA;
        at += if scanned { 2 } else { 2 + number(at + 2).max(2) as usize };
    }
    sizes
}
