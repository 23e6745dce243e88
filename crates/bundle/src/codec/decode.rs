//! Decoding of PNG, JPEG, WebP and TIFF to RGB pixels. The format is detected from the first bytes,
//! never from a name or a content type.
//!
//! Transparent pixels lie on white, as glass does; grey is copied to three channels, 16 bits become
//! 8. Colour profiles and EXIF orientation are ignored: programs cut tiles, and a rotated tile is
//! the same tile. TIFF, which holds much else, has rules of its own (`tiff`).

use std::io::Cursor;

use image::error::{DecodingError, ImageFormatHint};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader};

use super::limits::{DECODER_BYTES, DECODER_BYTES_A_PIXEL, DecodeError, Limits};
use super::{RgbImage, jpeg, tiff};

/// Returns width and height from the header.
///
/// # Errors
/// When the bytes are not a picture, or one beyond the limits.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<(usize, usize), DecodeError> {
    if tiff::is_tiff(bytes) {
        return Ok(tiff::File::open(bytes, limits)?.size());
    }
    let (decoder, _) = open(bytes, limits)?;
    let (width, height) = decoder.dimensions();
    Ok((width as usize, height as usize))
}

/// Decodes a picture.
///
/// # Errors
/// When the bytes are not a picture, or one beyond the limits, which is found out before memory of
/// its size is allocated.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage, DecodeError> {
    if tiff::is_tiff(bytes) {
        return tiff::File::open(bytes, limits)?.decode();
    }
    let (decoder, kind) = open(bytes, limits)?;
    let (width, height) = decoder.dimensions();
    if kind == image::ImageFormat::Jpeg && !jpeg::ends(bytes) {
        return Err(DecodeError::CutOff);
    }
    let undecodable = |source| DecodeError::Undecodable { kind: name(kind), source };
    let pixels = on_white(DynamicImage::from_decoder(decoder).map_err(undecodable)?);
    Ok(RgbImage { width: width as usize, height: height as usize, pixels })
}

/// RGB of a picture, transparent pixels over white.
fn on_white(picture: DynamicImage) -> Vec<u8> {
    if !picture.color().has_alpha() {
        return picture.into_rgb8().into_raw();
    }
    let mut pixels = picture.into_rgba8().into_raw();
    let mut kept = 0;
    for at in (0..pixels.len()).step_by(4) {
        let over = u16::from(pixels[at + 3]);
        for channel in at..at + 3 {
            let blended = u16::from(pixels[channel]) * over + 255 * (255 - over);
            // Three bytes a pixel take the place of four: no second picture is held.
            pixels[kept] = ((blended + 127) / 255) as u8;
            kept += 1;
        }
    }
    pixels.truncate(kept);
    pixels
}

/// A decoder that has read the header and nothing else, of a picture within the limits. What it may
/// allocate follows the size of this picture, not the limit: otherwise a colour profile that
/// unpacks to megabytes costs a tile's sender nothing.
fn open<'a>(
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<(impl ImageDecoder + 'a, image::ImageFormat), DecodeError> {
    let kind = kind_of(bytes).ok_or(DecodeError::UnknownKind)?;
    let undecodable = |source| DecodeError::Undecodable { kind: name(kind), source };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind);
    // Only of PNG does the decoder unpack anything before it knows the size.
    reader.limits(allowance(
        png_size(bytes, kind).map_or(Ok(0), |(width, height)| limits.check(width, height))?,
    ));
    let mut decoder = reader.into_decoder().map_err(undecodable)?;
    let (width, height) = decoder.dimensions();
    decoder.set_limits(allowance(limits.check(width, height)?)).map_err(undecodable)?;
    if kind == image::ImageFormat::WebP {
        one_still_webp(bytes, (width, height)).map_err(undecodable)?;
    }
    Ok((decoder, kind))
}

fn allowance(pixels: u64) -> image::Limits {
    let mut allowed = image::Limits::default();
    allowed.max_alloc =
        Some(pixels.saturating_mul(DECODER_BYTES_A_PIXEL as u64).saturating_add(DECODER_BYTES));
    allowed
}

/// Width and height off a PNG's first chunk, which stands at a fixed place.
fn png_size(bytes: &[u8], kind: image::ImageFormat) -> Option<(u32, u32)> {
    let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let is_header =
        kind == image::ImageFormat::Png && bytes.get(12..16) == Some(b"IHDR".as_slice());
    is_header.then(|| Some((number(16)?, number(20)?))).flatten()
}

/// Refuses animations, and a lossy bitstream whose size is not the file's: the decoder takes memory
/// for the bitstream's own size, up to 16,383 × 16,383, before it compares the two.
fn one_still_webp(bytes: &[u8], size: (u32, u32)) -> Result<(), ImageError> {
    let refused = |reason: &str| {
        let hint = ImageFormatHint::Exact(image::ImageFormat::WebP);
        Err(ImageError::Decoding(DecodingError::new(hint, reason.to_owned())))
    };
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((header, body)) = rest.split_first_chunk::<8>() {
        let (name, length) = header.split_at(4);
        let side = |at: usize| {
            body.get(at..at + 2)
                .map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]]) & 0x3FFF))
        };
        match name {
            b"ANIM" | b"ANMF" => return refused("it is an animation, and a tile is one picture"),
            b"VP8 " if (side(6), side(8)) != (Some(size.0), Some(size.1)) => {
                return refused("its bitstream has another size than its header");
            }
            _ => {}
        }
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        rest = body.get(length + length % 2..).unwrap_or_default();
    }
    Ok(())
}

fn kind_of(bytes: &[u8]) -> Option<image::ImageFormat> {
    use image::ImageFormat::{Jpeg, Png, WebP};
    image::guess_format(bytes).ok().filter(|kind| matches!(kind, Png | Jpeg | WebP))
}

fn name(kind: image::ImageFormat) -> &'static str {
    match kind {
        image::ImageFormat::Png => "PNG",
        image::ImageFormat::Jpeg => "JPEG",
        _ => "WebP",
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ImageFormat, encode};
    use super::*;

    const LIMITS: Limits = Limits::of_tile(1 << 16);

    fn picture() -> RgbImage {
        let pixels = (0..24 * 16 * 3).map(|i| (i * 7 % 251) as u8).collect();
        RgbImage { width: 24, height: 16, pixels }
    }

    #[test]
    fn lossless_kinds_come_back_as_they_went() {
        for format in [ImageFormat::Png, ImageFormat::Webp] {
            let bytes = encode(format, 100, &picture()).unwrap();
            assert_eq!(decode(&bytes, &LIMITS).unwrap(), picture());
        }
    }

    #[test]
    fn a_header_that_promises_too_much_is_refused_before_its_pixels() {
        // A whole PNG of 20,000 × 20,000: only its header is read.
        let mut bytes = encode(ImageFormat::Png, 90, &picture()).unwrap();
        bytes[16..24].copy_from_slice(&[0, 0, 0x4E, 0x20, 0, 0, 0x4E, 0x20]);
        let checksum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        let error = decode(&bytes, &LIMITS).unwrap_err();
        assert!(
            matches!(error, DecodeError::TooLarge { width: 20_000, height: 20_000, .. }),
            "{error}"
        );
    }

    #[test]
    fn every_cut_of_every_kind_is_refused() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp] {
            let bytes = encode(format, 90, &picture()).unwrap();
            assert!(decode(&bytes, &LIMITS).is_ok());
            for cut in [bytes.len() / 2, bytes.len() * 3 / 4] {
                assert!(
                    decode(&bytes[..cut], &LIMITS).is_err(),
                    "{format:?} cut at {cut} of {}",
                    bytes.len()
                );
            }
        }
        assert!(matches!(decode(b"not a picture at all", &LIMITS), Err(DecodeError::UnknownKind)));
        assert!(matches!(decode(b"GIF89a..........", &LIMITS), Err(DecodeError::UnknownKind)));
        assert!(matches!(decode(b"", &LIMITS), Err(DecodeError::UnknownKind)));
    }

    #[test]
    fn transparency_is_white_grey_is_repeated_and_16_bits_become_8() {
        let png = |picture: DynamicImage| {
            let mut bytes = Cursor::new(Vec::new());
            picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
            decode(&bytes.into_inner(), &LIMITS).unwrap().pixels
        };
        let rgba = vec![10, 20, 30, 0, 10, 20, 30, 255, 0, 100, 200, 51];
        let rgba = image::RgbaImage::from_raw(3, 1, rgba).unwrap();
        let over_white = [255, 255, 255, 10, 20, 30, 204, 224, 244];
        assert_eq!(png(DynamicImage::ImageRgba8(rgba)), over_white);
        let grey = image::GrayAlphaImage::from_raw(2, 1, vec![0, 0, 77, 255]).unwrap();
        assert_eq!(png(DynamicImage::ImageLumaA8(grey)), [255, 255, 255, 77, 77, 77]);
        let grey = image::GrayImage::from_raw(1, 1, vec![77]).unwrap();
        assert_eq!(png(DynamicImage::ImageLuma8(grey)), [77, 77, 77]);
        let deep = image::ImageBuffer::from_raw(1, 1, vec![65_535u16, 0, 257 * 9]).unwrap();
        assert_eq!(png(DynamicImage::ImageRgb16(deep)), [255, 0, 9]);
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 }
            })
        })
    }
}
