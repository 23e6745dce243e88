//! Encoding of RGB pixels to PNG, JPEG or WebP. Equal pixels give equal bytes.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::error::{EncodingError, ImageFormatHint};
use image::{ExtendedColorType, ImageEncoder, ImageError};
use serde::{Deserialize, Serialize};

use super::{RgbImage, webp};

/// The formats that pictures are encoded in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Lossless; fast compression, since a tile is read once by a training loop rather than stored
    /// for years.
    #[default]
    Png,
    /// Lossy. Chroma keeps its resolution (4:4:4): stain is colour, and halving it costs 3 to 6 dB
    /// for a fifth of the bytes.
    Jpeg,
    /// Lossy below quality 100, with halved chroma; lossless at 100, smaller than PNG and slower to
    /// write and read.
    Webp,
}

impl ImageFormat {
    /// Returns the media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// Returns whether pictures of this format keep every pixel, at this quality.
    pub fn is_lossless(self, quality: u8) -> bool {
        match self {
            Self::Png => true,
            Self::Jpeg => false,
            Self::Webp => quality >= 100,
        }
    }

    /// Returns the extension of a file name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
        }
    }
}

/// Why a picture could not be encoded.
#[derive(Debug, thiserror::Error)]
#[error("a picture cannot be written as {}: {source}; PNG has no such bound", .format.media_type())]
pub struct EncodeError {
    /// The format.
    pub format: ImageFormat,
    /// What the encoder reports.
    pub source: image::ImageError,
}

/// Encodes a picture. `quality` is clamped to 1..=100 and applies to JPEG and WebP; WebP is
/// lossless at 100, PNG always.
///
/// # Errors
/// When the format cannot have the size (WebP and JPEG have bounds of 16 thousand and 65 thousand a
/// side).
pub fn encode(
    format: ImageFormat,
    quality: u8,
    picture: &RgbImage,
) -> Result<Vec<u8>, EncodeError> {
    let quality = quality.clamp(1, 100);
    let encoding = |kind, error: Refusal| {
        ImageError::Encoding(EncodingError::new(ImageFormatHint::Exact(kind), error))
    };
    let written = match format {
        ImageFormat::Jpeg => {
            jpeg(quality, picture).map_err(|error| encoding(image::ImageFormat::Jpeg, error))
        }
        ImageFormat::Webp if !format.is_lossless(quality) => webp::lossy(quality, picture)
            .map_err(|error| encoding(image::ImageFormat::WebP, error.into())),
        ImageFormat::Png | ImageFormat::Webp => lossless(format, picture),
    };
    written.map_err(|source| EncodeError { format, source })
}

type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// PNG or WebP.
fn lossless(format: ImageFormat, picture: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut out = Vec::with_capacity(picture.pixels.len() / 2 + 1024);
    let (pixels, width, height) = (&picture.pixels, picture.width as u32, picture.height as u32);
    if format == ImageFormat::Webp {
        WebPEncoder::new_lossless(&mut out).write_image(
            pixels,
            width,
            height,
            ExtendedColorType::Rgb8,
        )?;
        return Ok(out);
    }
    // Avg costs what Up costs and leaves 5 to 9 % fewer bytes. Paeth leaves 7 to 12 % fewer still,
    // for a tenth of the speed here and two fifths of the reader's; no compression is ten times as
    // fast and half as large again.
    let encoder = PngEncoder::new_with_quality(&mut out, CompressionType::Fast, FilterType::Avg);
    encoder.write_image(pixels, width, height, ExtendedColorType::Rgb8)?;
    Ok(out)
}

/// Twice as fast as the encoder of `image`, at its sizes and likeness.
fn jpeg(quality: u8, picture: &RgbImage) -> Result<Vec<u8>, Refusal> {
    let (width, height) = (u16::try_from(picture.width)?, u16::try_from(picture.height)?);
    let mut out = Vec::with_capacity(picture.pixels.len() / 2 + 1024);
    let mut encoder = jpeg_encoder::Encoder::new(&mut out, quality);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::R_4_4_4);
    encoder.encode(&picture.pixels, width, height, jpeg_encoder::ColorType::Rgb)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, decode};
    use super::*;

    const LIMITS: Limits = Limits::of_tile(1 << 16);
    const FORMATS: [ImageFormat; 3] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp];

    /// Soft blobs of two stains under grain, like tissue: enough of each frequency for an encoder
    /// to choose what to lose.
    fn tissue() -> RgbImage {
        let (width, height) = (72, 56);
        let mut grain = 1u32;
        let mut pixels = Vec::with_capacity(width * height * 3);
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y as f32, x as f32))) {
            let nucleus = ((x / 7.0).sin() * (y / 5.0).cos()).max(0.0);
            grain = grain.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (grain >> 24) as f32 / 16.0;
            pixels.extend(
                [225.0 - 120.0 * nucleus, 170.0 - 110.0 * nucleus, 205.0 - 50.0 * nucleus]
                    .map(|value| (value + noise) as u8),
            );
        }
        RgbImage { width, height, pixels }
    }

    fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
        let square = |(a, b): (&u8, &u8)| f64::from(a.abs_diff(*b)).powi(2);
        let error = a.pixels.iter().zip(&b.pixels).map(square).sum::<f64>() / a.pixels.len() as f64;
        10.0 * (255.0 * 255.0 / error).log10()
    }

    #[test]
    fn bytes_and_likeness_grow_with_quality() {
        for format in [ImageFormat::Jpeg, ImageFormat::Webp] {
            let written = [5, 30, 60, 90, 99].map(|quality| {
                let bytes = encode(format, quality, &tissue()).unwrap();
                let picture = decode(&bytes, &LIMITS).unwrap();
                assert_eq!((picture.width, picture.height), (72, 56));
                (bytes.len(), psnr(&picture, &tissue()))
            });
            let grows = |pair: &[(usize, f64)]| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1;
            assert!(written.windows(2).all(grows), "{format:?}: {written:?}");
            assert!(written[3].1 > 30.0, "{format:?}: {written:?}");
        }
    }

    #[test]
    fn what_lies_outside_the_qualities_counts_as_the_nearest() {
        for format in FORMATS {
            let at = |quality| encode(format, quality, &tissue()).unwrap();
            assert!(at(0) == at(1) && at(255) == at(100), "{format:?}");
            assert_eq!(at(1) == at(100), format == ImageFormat::Png, "{format:?}");
        }
    }

    #[test]
    fn the_same_pixels_are_the_same_bytes_whatever_was_written_before_or_beside_them() {
        for (format, quality) in
            FORMATS.into_iter().flat_map(|format| [(format, 80), (format, 100)])
        {
            let first = encode(format, quality, &tissue()).unwrap();
            let other = RgbImage { width: 9, height: 5, pixels: vec![7; 9 * 5 * 3] };
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        encode(format, 1, &other).unwrap();
                        assert!(
                            encode(format, quality, &tissue()).unwrap() == first,
                            "{format:?} at {quality}"
                        );
                    });
                }
            });
        }
    }

    #[test]
    fn a_size_that_a_format_cannot_hold_is_an_error() {
        let line = |width: usize| RgbImage { width, height: 1, pixels: vec![0; width * 3] };
        assert!(encode(ImageFormat::Webp, 80, &line(16_383)).is_ok());
        for quality in [80, 100] {
            let error = encode(ImageFormat::Webp, quality, &line(16_385)).unwrap_err();
            assert!(
                error.to_string().starts_with("a picture cannot be written as image/webp: "),
                "{error}"
            );
            assert!(encode(ImageFormat::Webp, quality, &line(0)).is_err());
        }
        assert!(encode(ImageFormat::Jpeg, 80, &line(65_536)).is_err());
    }

    #[test]
    fn noise_that_describes_more_blocks_than_the_format_has_room_for_is_written_simpler() {
        let (width, height) = (5120, 4352);
        // A linear congruential generator: every block differs from those beside it.
        let mut state = 1u32;
        let noise = std::iter::from_fn(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((state >> 24) as u8)
        });
        let pixels = noise.take(width * height * 3).collect();
        let picture = RgbImage { width, height, pixels };
        let bytes = encode(ImageFormat::Webp, 95, &picture).unwrap();
        let back = decode(&bytes, &Limits::of_tile(1 << 25)).unwrap();
        assert_eq!((back.width, back.height), (width, height));
    }
}
