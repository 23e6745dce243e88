//! TIFF: which files are one picture of a kind that is read, and their pixels as RGB.
//!
//! TIFF holds anything: microscopes write float and 32-bit samples, planes as pictures of their
//! own, and whole-slide formats compress tiles with JPEG. Every kind has a rule here (`Kind`), and
//! what has none is rejected in words: a picture whose values were guessed would be augmented
//! without anyone seeing it. The rules are those of `docs/pictures.md`.
//!
//! The library reads directories, strips and tiles; what these promise is judged first
//! (`promises`), and so is whether there is one picture (`pages`). What a file says about the size
//! of its pixels is no matter of decoding (`microns`).

mod microns;
mod pages;
mod palette;
mod promises;
mod rgb;

use std::io::Cursor;

use tiff::decoder::{Decoder, DecodingResult};
use tiff::tags::{CompressionMethod, ExtraSamples, PhotometricInterpretation, SampleFormat, Tag};
use tiff::{ColorType, TiffError};

pub use microns::{Microns, MicronsTag, microns};

use super::limits::{DECODER_BYTES, DECODER_BYTES_A_PIXEL, DecodeError, Limits};
use super::picture::RgbImage;

type Tiff<'a> = Decoder<Cursor<&'a [u8]>>;

/// A file that is one picture of a kind that is read, within the limits.
pub(super) struct File<'a> {
    bytes: &'a [u8],
    decoder: Tiff<'a>,
    width: u32,
    height: u32,
    kind: Kind,
}

/// What the samples of a pixel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Grey {
        alpha: Alpha,
    },
    Rgb {
        alpha: Alpha,
    },
    Cmyk,
    /// Of JPEG; the library has it at full resolution.
    YCbCr,
    /// Grey samples that are places in a table of colours.
    Palette,
}

/// What the sample behind the colours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alpha {
    None,
    /// Colours are multiplied by it already.
    Associated,
    Unassociated,
}

/// Whether the bytes begin as a TIFF does, BigTIFF included.
pub(super) fn is_tiff(bytes: &[u8]) -> bool {
    [*b"II*\0", *b"MM\0*", *b"II+\0", *b"MM\0+"].iter().any(|magic| bytes.starts_with(magic))
}

fn refused(reason: impl Into<String>) -> DecodeError {
    DecodeError::Tiff { reason: reason.into() }
}

fn unreadable(error: TiffError) -> DecodeError {
    refused(error.to_string())
}

impl<'a> File<'a> {
    /// Reads the directory, and none of the pixels.
    ///
    /// # Errors
    /// When it is beyond the limits, of a kind that is not read, or promises what cannot be.
    pub(super) fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(unreadable)?;
        let (width, height) = decoder.dimensions().map_err(unreadable)?;
        let pixels = limits.check(width, height)?;
        decoder = decoder.with_limits(allowance(pixels));
        pages::check(&mut decoder)?;
        let kind = Kind::of(&mut decoder)?;
        promises::check(&mut decoder, bytes, (width, height))?;
        Ok(Self { bytes, decoder, width, height, kind })
    }

    pub(super) fn size(&self) -> (usize, usize) {
        (self.width as usize, self.height as usize)
    }

    /// # Errors
    /// When strips or tiles are damaged, or a value is beyond the rule of its kind.
    pub(super) fn decode(self) -> Result<RgbImage, DecodeError> {
        let (width, height) = self.size();
        let pixels = match self.kind {
            Kind::Palette => palette::decode(self.bytes, self.decoder, (width, height))?,
            kind => rgb::of(kind, samples(self.decoder)?, width, height)?,
        };
        Ok(RgbImage { width, height, pixels })
    }
}

/// All samples of a picture, as the file has them.
struct Samples {
    values: DecodingResult,
    bits: u8,
    /// Of one pixel.
    each: usize,
    /// Whether every sample has a plane of its own.
    planar: bool,
}

fn samples(mut decoder: Tiff<'_>) -> Result<Samples, DecodeError> {
    let colour = decoder.colortype().map_err(unreadable)?;
    let mut values = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut values).map_err(unreadable)?;
    if values.as_buffer(0).as_bytes().len() < layout.complete_len {
        return Err(refused("its planes need more memory than a picture of its size"));
    }
    let each = usize::from(colour.num_samples());
    Ok(Samples { values, bits: colour.bit_depth(), each, planar: layout.planes > 1 })
}

/// What the library may allocate follows the size of this picture.
fn allowance(pixels: u64) -> tiff::decoder::Limits {
    let bytes = pixels.saturating_mul(DECODER_BYTES_A_PIXEL as u64).saturating_add(DECODER_BYTES);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut limits = tiff::decoder::Limits::default();
    limits.decoding_buffer_size = bytes;
    limits.intermediate_buffer_size = bytes;
    limits.ifd_value_size = limits.ifd_value_size.min(bytes);
    limits
}

impl Kind {
    fn of(decoder: &mut Tiff<'_>) -> Result<Self, DecodeError> {
        let compression = compression(decoder)?;
        let is_jpeg = compression == CompressionMethod::ModernJPEG;
        let mut number = |tag| decoder.find_tag_unsigned::<u16>(tag).map_err(unreadable);
        let photometric =
            number(Tag::PhotometricInterpretation)?.and_then(PhotometricInterpretation::from_u16);
        use PhotometricInterpretation as Space;
        match photometric {
            Some(Space::RGBPalette) => return Ok(Self::Palette),
            Some(Space::CIELab | Space::IccLab | Space::ItuLab) => {
                return Err(refused("its colours are L*a*b*: save it as RGB"));
            }
            _ => {}
        }
        let extra = number_list(decoder, Tag::ExtraSamples)?;
        let alpha = match extra.first().copied().and_then(ExtraSamples::from_u16) {
            Some(ExtraSamples::AssociatedAlpha) => Alpha::Associated,
            Some(ExtraSamples::UnassociatedAlpha) => Alpha::Unassociated,
            _ => Alpha::None,
        };
        let colour = decoder.colortype().map_err(unreadable)?;
        let kind = match colour {
            ColorType::Gray(_) => Self::Grey { alpha: Alpha::None },
            // Of other samples it is not known what they are: mostly they are colours.
            ColorType::Multiband { num_samples: 2, .. } if alpha != Alpha::None => {
                Self::Grey { alpha }
            }
            ColorType::RGB(_) => Self::Rgb { alpha: Alpha::None },
            ColorType::RGBA(_) => Self::Rgb { alpha },
            ColorType::CMYK(_) if !is_jpeg => Self::Cmyk,
            ColorType::YCbCr(_) if is_jpeg => Self::YCbCr,
            ColorType::YCbCr(_) => {
                return Err(refused("it is YCbCr without JPEG: save it as RGB"));
            }
            ColorType::Multiband { num_samples, .. } => {
                return Err(refused(format!(
                    "it is grey with {num_samples} samples a pixel, and grey has one: save colours \
                    as RGB"
                )));
            }
            other => {
                return Err(refused(format!("its colours are {other:?}: save it as RGB or grey")));
            }
        };
        kind.check_samples(decoder, colour)?;
        Ok(kind)
    }

    /// Checks that the samples are of a type that has a rule.
    fn check_samples(self, decoder: &mut Tiff<'_>, colour: ColorType) -> Result<(), DecodeError> {
        let formats = number_list(decoder, Tag::SampleFormat)?;
        let bits = colour.bit_depth();
        let format = formats.first().copied().unwrap_or(SampleFormat::Uint.to_u16());
        let is_colour =
            matches!(self, Self::Grey { alpha: Alpha::None } | Self::Rgb { alpha: Alpha::None });
        match (SampleFormat::from_u16(format), bits) {
            (Some(SampleFormat::Uint), 8 | 16) => Ok(()),
            (Some(SampleFormat::Uint), 1 | 2 | 4) if matches!(colour, ColorType::Gray(_)) => Ok(()),
            // Their values are looked at once they are read.
            (Some(SampleFormat::IEEEFP), 32) if is_colour => Ok(()),
            (Some(SampleFormat::Uint), _) => Err(refused(format!(
                "its samples are integers of {bits} bits, and 8 and 16 are read: scale them to 8 \
                bits"
            ))),
            (Some(SampleFormat::Int), _) => Err(refused(format!(
                "its samples are signed integers of {bits} bits: scale them to 0 to 255 without a \
                sign"
            ))),
            (Some(SampleFormat::IEEEFP), _) => Err(refused(format!(
                "its samples are floating point of {bits} bits, with {colour:?}, and read are 32 \
                bits, grey or RGB: scale them to 8 bits"
            ))),
            _ => Err(refused("its samples are neither integers nor floating point")),
        }
    }
}

fn number_list(decoder: &mut Tiff<'_>, tag: Tag) -> Result<Vec<u16>, DecodeError> {
    Ok(decoder.find_tag_unsigned_vec::<u16>(tag).map_err(unreadable)?.unwrap_or_default())
}

/// # Errors
/// When strips and tiles are compressed with what is not read, by name.
fn compression(decoder: &mut Tiff<'_>) -> Result<CompressionMethod, DecodeError> {
    let number = decoder.find_tag_unsigned::<u16>(Tag::Compression).map_err(unreadable)?;
    let number = number.unwrap_or(CompressionMethod::None.to_u16());
    let method = CompressionMethod::from_u16_exhaustive(number);
    use CompressionMethod as Method;
    if matches!(
        method,
        Method::None
            | Method::LZW
            | Method::PackBits
            | Method::Deflate
            | Method::OldDeflate
            | Method::ModernJPEG
    ) {
        return Ok(method);
    }
    let name = match number {
        2..=4 => "a fax encoding",
        6 => "JPEG as TIFF 6.0 had it first",
        33_003..=33_005 | 34_712 => "JPEG 2000",
        34_887 => "LERC",
        34_925 => "LZMA",
        34_892 => "lossy DNG JPEG",
        22_610 | 34_934 | 50_002 => "JPEG XR or JPEG XL",
        50_000 => "Zstandard",
        50_001 => "WebP",
        _ => "an encoding that is not known here",
    };
    Err(refused(format!(
        "it is compressed with {name} ({number}), and read are JPEG, LZW, Deflate, PackBits and \
        none"
    )))
}
