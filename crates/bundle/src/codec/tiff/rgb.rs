//! Samples of any kind as 8-bit RGB.

use tiff::decoder::DecodingResult;

use super::{Alpha, Kind, Samples, refused};
use crate::codec::limits::DecodeError;

/// `[height, width, 3]` of the samples.
///
/// # Errors
/// When floating point is outside 0 to 1.
pub(super) fn of(
    kind: Kind,
    samples: Samples,
    width: usize,
    height: usize,
) -> Result<Vec<u8>, DecodeError> {
    let Samples { values, bits, each, planar } = samples;
    let layout = Layout { kind, each, plane: planar.then_some(width * height) };
    match values {
        DecodingResult::U8(bytes) if bits < 8 => {
            layout.rgb(width * height, &unpack(&bytes, bits, width), |&byte| Ok(byte))
        }
        DecodingResult::U8(bytes) if layout.is_rgb() => Ok(bytes),
        DecodingResult::U8(bytes) => layout.rgb(width * height, &bytes, |&byte| Ok(byte)),
        DecodingResult::U16(words) => layout.rgb(width * height, &words, |&word| Ok(narrow(word))),
        DecodingResult::F32(floats) => layout.rgb(width * height, &floats, unit),
        _ => Err(refused("its samples are of a type that is not read")),
    }
}

/// 0 to 65,535 as 0 to 255, to the nearest.
fn narrow(word: u16) -> u8 {
    ((u32::from(word) + 128) / 257) as u8
}

/// 0 to 1 as 0 to 255, to the nearest.
fn unit(&float: &f32) -> Result<u8, DecodeError> {
    if !(0.0..=1.0).contains(&float) {
        return Err(refused(format!(
            "its samples are floating point, and {float} is not between 0 and 1: scale them, or \
            save them as 8 bits"
        )));
    }
    Ok((float * 255.0).round() as u8)
}

/// Samples of 1, 2 or 4 bits, rows padded to bytes, spread over 0 to 255.
pub(super) fn unpack(bytes: &[u8], bits: u8, width: usize) -> Vec<u8> {
    let scale = 255 / ((1_u16 << bits) - 1) as u8;
    indices(bytes, bits, width).map(|value| value * scale).collect()
}

/// Samples of at most 8 bits, rows padded to bytes, as they are.
pub(super) fn indices(bytes: &[u8], bits: u8, width: usize) -> impl Iterator<Item = u8> {
    let row = (width * usize::from(bits)).div_ceil(8);
    let mask = (0xFF_u16 >> (8 - bits)) as u8;
    bytes.chunks_exact(row).flat_map(move |row| {
        (0..width).map(move |x| {
            let bit = x * usize::from(bits);
            (row[bit / 8] >> (8 - usize::from(bits) - bit % 8)) & mask
        })
    })
}

/// Where the samples of a pixel lie, and what they are.
struct Layout {
    kind: Kind,
    each: usize,
    /// Samples of a plane, where each has one.
    plane: Option<usize>,
}

impl Layout {
    fn is_rgb(&self) -> bool {
        (self.kind, self.each, self.plane) == (Kind::Rgb { alpha: Alpha::None }, 3, None)
    }

    fn rgb<T>(
        &self,
        pixels: usize,
        samples: &[T],
        byte: impl Fn(&T) -> Result<u8, DecodeError>,
    ) -> Result<Vec<u8>, DecodeError> {
        let mut rgb = Vec::with_capacity(pixels * 3);
        for pixel in 0..pixels {
            let sample = |channel: usize| {
                byte(match self.plane {
                    Some(plane) => &samples[channel * plane + pixel],
                    None => &samples[pixel * self.each + channel],
                })
            };
            rgb.extend(match self.kind {
                Kind::Grey { alpha: Alpha::None } => [sample(0)?; 3],
                Kind::Grey { alpha } => [on_white(sample(0)?, sample(1)?, alpha); 3],
                Kind::Rgb { alpha: Alpha::None } => [sample(0)?, sample(1)?, sample(2)?],
                Kind::Rgb { alpha } => {
                    let over = sample(3)?;
                    let colour =
                        |channel| sample(channel).map(|colour| on_white(colour, over, alpha));
                    [colour(0)?, colour(1)?, colour(2)?]
                }
                Kind::Cmyk => {
                    let black = sample(3)?;
                    let colour = |channel| sample(channel).map(|ink| without_ink(ink, black));
                    [colour(0)?, colour(1)?, colour(2)?]
                }
                Kind::YCbCr => of_ycbcr([sample(0)?, sample(1)?, sample(2)?]),
                Kind::Palette => unreachable!("its samples are looked up, not converted"),
            });
        }
        Ok(rgb)
    }
}

/// A colour over white.
fn on_white(colour: u8, over: u8, alpha: Alpha) -> u8 {
    let white = 255 * (255 - u16::from(over));
    let own = match alpha {
        Alpha::Unassociated | Alpha::None => u16::from(colour) * u16::from(over),
        Alpha::Associated => u16::from(colour.min(over)) * 255,
    };
    ((own + white + 127) / 255) as u8
}

/// A channel of a colour of inks, without a profile.
fn without_ink(ink: u8, black: u8) -> u8 {
    ((u16::from(255 - ink) * u16::from(255 - black) + 127) / 255) as u8
}

/// Full-range YCbCr of JPEG (JFIF 1.02), with libjpeg's rounding.
fn of_ycbcr([luma, blue, red]: [u8; 3]) -> [u8; 3] {
    let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
    let channel = |difference: i32| (luma + ((difference + 32_768) >> 16)).clamp(0, 255) as u8;
    // 1.402, 0.344136, 0.714136 and 1.772, times 65,536.
    [channel(91_881 * red), channel(-22_554 * blue - 46_802 * red), channel(116_130 * blue)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_few_bits_are_spread_over_the_range() {
        assert_eq!(unpack(&[0b1010_0000, 0b0100_0000], 1, 3), [255, 0, 255, 0, 255, 0]);
        assert_eq!(unpack(&[0b0001_1011], 2, 4), [0, 85, 170, 255]);
        assert_eq!(unpack(&[0x0F, 0x80], 4, 3), [0, 255, 136]);
    }

    #[test]
    fn transparency_is_white() {
        for alpha in [Alpha::Associated, Alpha::Unassociated] {
            assert_eq!(on_white(0, 0, alpha), 255);
            assert_eq!(on_white(100, 255, alpha), 100);
        }
        assert_eq!(on_white(100, 51, Alpha::Unassociated), 224);
        assert_eq!(on_white(20, 51, Alpha::Associated), 224);
    }

    #[test]
    fn ycbcr_is_that_of_jpeg() {
        assert_eq!(of_ycbcr([128, 128, 128]), [128; 3]);
        assert_eq!(of_ycbcr([76, 85, 255]), [254, 0, 0]);
        assert_eq!(of_ycbcr([29, 255, 107]), [0, 0, 254]);
    }
}
