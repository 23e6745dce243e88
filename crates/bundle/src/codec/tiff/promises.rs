//! What the inside of a TIFF promises, judged before anything of it is unpacked.
//!
//! The file's header has one size; its strips and tiles have their own, and so has a JPEG in each
//! of them. The decoder takes memory and time for those. Strips that all name the same bytes make a
//! small file cost what a large one does.

use tiff::decoder::ChunkType;
use tiff::tags::{CompressionMethod, PlanarConfiguration, Tag};

use super::{Tiff, refused, unreadable};
use crate::codec::jpeg::{self, Frame};
use crate::codec::limits::DecodeError;

/// Bytes that all strips together may have, in sizes of the file: a tool may share one strip.
const MAX_FILES: u64 = 2;
/// Pixels of a tile of the file, where the picture is smaller than its tiles.
const MAX_TILE_PIXELS: u64 = 1 << 20;

/// Refuses a file whose strips or tiles promise more than the file and the picture are.
pub(super) fn check(
    decoder: &mut Tiff<'_>,
    bytes: &[u8],
    (width, height): (u32, u32),
) -> Result<(), DecodeError> {
    let pixels = u64::from(width) * u64::from(height);
    let (chunk_width, chunk_height) = decoder.chunk_dimensions();
    let tile_pixels = u64::from(chunk_width) * u64::from(chunk_height);
    if tile_pixels > MAX_TILE_PIXELS.max(2 * pixels) {
        return Err(refused(format!(
            "its tiles are {chunk_width}×{chunk_height} pixels, and the picture is {width}×{height}"
        )));
    }
    // The library takes the last row of tiles of every plane but the first for a whole one, and
    // panics.
    if is_planar(decoder)?
        && decoder.get_chunk_type() == ChunkType::Tile
        && !height.is_multiple_of(chunk_height.max(1))
    {
        return Err(refused(format!(
            "its planes are in tiles of {chunk_height} rows, which do not divide its {height}: \
            save it interleaved"
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
        && !jpeg::frames(&tables.into_u8_vec().map_err(unreadable)?).is_empty()
    {
        return Err(refused("its JPEG tables hold a picture"));
    }
    let components = components(decoder)?;
    let offsets = decoder.get_tag_u64_vec(offsets).map_err(unreadable)?;
    for (&offset, &length) in offsets.iter().zip(&lengths) {
        let end = offset.saturating_add(length).min(bytes.len() as u64) as usize;
        let strip = bytes.get(offset as usize..end).unwrap_or_default();
        let frames = jpeg::frames(strip);
        // A narrower one would shear the rows of the picture.
        let fits = |frame: &&Frame| frame.width == chunk_width && frame.height <= chunk_height;
        if let Some(Frame { width, height, .. }) = frames.iter().find(|frame| !fits(frame)) {
            return Err(refused(format!(
                "a JPEG in it is {width}×{height} pixels, and its strips or tiles are \
                {chunk_width}×{chunk_height}"
            )));
        }
        if let Some(frame) = frames.iter().find(|frame| u16::from(frame.components) != components) {
            return Err(refused(format!(
                "a JPEG in it has {} components, and its strips or tiles have {components}",
                frame.components
            )));
        }
        if !jpeg::ends(strip) {
            return Err(refused("a JPEG in it is cut off: its end marker is missing"));
        }
    }
    Ok(())
}

/// Samples of a pixel in one strip or tile.
fn components(decoder: &mut Tiff<'_>) -> Result<u16, DecodeError> {
    if is_planar(decoder)? {
        return Ok(1);
    }
    let samples = decoder.find_tag_unsigned::<u16>(Tag::SamplesPerPixel).map_err(unreadable)?;
    Ok(samples.unwrap_or(1))
}

fn is_planar(decoder: &mut Tiff<'_>) -> Result<bool, DecodeError> {
    let planes = decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration).map_err(unreadable)?;
    Ok(planes == Some(PlanarConfiguration::Planar.to_u16()))
}
