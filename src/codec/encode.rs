//! RGB pixels to the bytes of a PNG, JPEG or WebP. The same pixels give the same bytes.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde::{Deserialize, Serialize};

use super::RgbImage;

/// The kinds of picture that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Lossless; fast compression, since a tile is read once by a training loop rather than stored for years.
    #[default]
    Png,
    /// Lossy, without chroma subsampling; `quality` applies.
    Jpeg,
    /// Lossless WebP: smaller than PNG and slower to write.
    Webp,
}

impl ImageFormat {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// The ending of a file's name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the picture cannot be written as {format:?}: {source}")]
pub struct EncodeError {
    pub format: ImageFormat,
    pub source: image::ImageError,
}

/// `quality` 1 to 100 is JPEG's alone: the other two lose nothing.
///
/// # Errors
/// When the encoder refuses the size (WebP and JPEG have bounds of 16 thousand and 65 thousand a side).
pub fn encode(format: ImageFormat, quality: u8, picture: &RgbImage) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(picture.pixels.len() / 2 + 1024);
    let (width, height) = (picture.width as u32, picture.height as u32);
    let color = ExtendedColorType::Rgb8;
    let written = match format {
        // Up is the cheapest filter that helps on photographs; Adaptive tries five for every row.
        ImageFormat::Png => {
            PngEncoder::new_with_quality(&mut out, CompressionType::Fast, FilterType::Up).write_image(&picture.pixels, width, height, color)
        }
        ImageFormat::Jpeg => JpegEncoder::new_with_quality(&mut out, quality).write_image(&picture.pixels, width, height, color),
        ImageFormat::Webp => WebPEncoder::new_lossless(&mut out).write_image(&picture.pixels, width, height, color),
    };
    written.map_err(|source| EncodeError { format, source })?;
    Ok(out)
}
