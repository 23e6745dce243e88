//! Standardisation of pixels (u8, 0..=255) to the values that the encoder works on, and back.
//!
//! value = (pixel/255 − mean) / std, per channel. Channels are interleaved, `[.., 3]`. The
//! synthesiser does not call [`Normalisation::to_pixels`]: it folds the same affine map into its
//! product.

use serde::{Deserialize, Serialize};

/// Per-channel mean and standard deviation of pixels scaled to 0..1. [`Normalisation::new`] and
/// serde both check them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "NormalisationSpec")]
pub struct Normalisation {
    /// Mean of red, green and blue.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue.
    pub std: [f32; 3],
}

/// A mean or a standard deviation that no set of pixels can have.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NormalisationError {
    /// A mean is infinite or NaN.
    #[error("mean of channel {channel} is {value}, and must be finite")]
    Mean {
        /// 0, 1, 2 for red, green, blue.
        channel: usize,
        /// Its mean.
        value: f32,
    },
    /// A standard deviation is not positive, infinite or NaN.
    #[error("std of channel {channel} is {value}, and must be finite and above 0")]
    Std {
        /// 0, 1, 2 for red, green, blue.
        channel: usize,
        /// Its standard deviation.
        value: f32,
    },
}

/// The two triples as they stand in `bundle.json`, not yet checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NormalisationSpec {
    mean: [f32; 3],
    std: [f32; 3],
}

impl TryFrom<NormalisationSpec> for Normalisation {
    type Error = NormalisationError;
    fn try_from(spec: NormalisationSpec) -> Result<Self, NormalisationError> {
        Self::new(spec.mean, spec.std)
    }
}

impl Normalisation {
    /// Checks mean and standard deviation of red, green and blue.
    ///
    /// # Errors
    /// When a mean is not finite, or a standard deviation not finite and above 0.
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Result<Self, NormalisationError> {
        for (channel, (&mean, &std)) in mean.iter().zip(&std).enumerate() {
            if !mean.is_finite() {
                return Err(NormalisationError::Mean { channel, value: mean });
            }
            // A subnormal std would make 1/std infinite.
            if !(std.is_finite() && std >= f32::MIN_POSITIVE) {
                return Err(NormalisationError::Std { channel, value: std });
            }
        }
        Ok(Self { mean, std })
    }

    /// Standardises pixels.
    ///
    /// # Shapes
    /// `pixels` `[.., 3] u8`, `values` `[.., 3] f32`.
    ///
    /// # Panics
    /// When the lengths differ or are not whole pixels.
    pub fn to_values(&self, pixels: &[u8], values: &mut [f32]) {
        assert_eq!(pixels.len(), values.len(), "one value for each byte");
        let (pixels, rest) = pixels.as_chunks::<3>();
        assert!(rest.is_empty(), "whole pixels");
        let scale = self.std.map(|std| 1.0 / (255.0 * std));
        let offset: [f32; 3] = std::array::from_fn(|c| -self.mean[c] / self.std[c]);
        for (pixel, value) in pixels.iter().zip(values.as_chunks_mut::<3>().0) {
            for c in 0..3 {
                value[c] = f32::from(pixel[c]) * scale[c] + offset[c];
            }
        }
    }

    /// Turns values into pixels, rounded and clamped; NaN becomes 0.
    ///
    /// # Shapes
    /// `values` `[.., 3] f32`, `pixels` `[.., 3] u8`.
    ///
    /// # Panics
    /// When the lengths differ or are not whole pixels.
    pub fn to_pixels(&self, values: &[f32], pixels: &mut [u8]) {
        assert_eq!(pixels.len(), values.len(), "one byte for each value");
        let (values, rest) = values.as_chunks::<3>();
        assert!(rest.is_empty(), "whole pixels");
        let (scale, offset) = self.to_byte_scale();
        for (value, pixel) in values.iter().zip(pixels.as_chunks_mut::<3>().0) {
            for c in 0..3 {
                pixel[c] = to_byte(value[c] * scale[c] + offset[c]);
            }
        }
    }

    /// Returns the affine map from values to 0..=255: pixel = value·scale + offset, per channel.
    pub fn to_byte_scale(&self) -> ([f32; 3], [f32; 3]) {
        (self.std.map(|std| std * 255.0), self.mean.map(|mean| mean * 255.0))
    }
}

/// Rounds to the nearest byte and clamps; NaN becomes 0.
///
/// Adding 2²³ leaves the rounded integer in the low bits of the mantissa. `f32::round` and a
/// saturating cast do the same, but neither vectorises well.
#[inline(always)]
#[allow(clippy::manual_clamp, reason = "clamp would keep NaN")]
pub(super) fn to_byte(value: f32) -> u8 {
    let value = value.max(0.0).min(255.0);
    (value + 8_388_608.0).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAMELYON: Normalisation =
        Normalisation { mean: [0.7441, 0.5895, 0.7214], std: [0.1301, 0.1489, 0.1107] };

    #[test]
    fn every_pixel_survives_the_round_trip() {
        let pixels: Vec<u8> = (0..=255u8).flat_map(|v| [v, 255 - v, v / 2]).collect();
        let mut values = vec![0.0; pixels.len()];
        let mut back = vec![0; pixels.len()];
        CAMELYON.to_values(&pixels, &mut values);
        CAMELYON.to_pixels(&values, &mut back);
        assert_eq!(pixels, back);
    }

    #[test]
    fn a_pixel_at_the_mean_is_zero_and_one_deviation_up_is_one() {
        let norm = Normalisation::new([0.2, 0.4, 0.6], [0.2, 0.4, 0.2]).unwrap();
        let mut values = [0.0; 6];
        norm.to_values(&[51, 102, 153, 102, 204, 204], &mut values);
        for (value, expected) in values.iter().zip([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) {
            assert!((value - expected).abs() < 1e-6, "{value} is not {expected}");
        }
    }

    #[test]
    fn bytes_are_rounded_and_clamped_and_nan_is_black() {
        let bytes =
            [-1e9, -0.6, 0.4, 0.6, 254.4, 254.6, 255.6, f32::INFINITY, f32::NAN].map(to_byte);
        assert_eq!(bytes, [0, 0, 0, 1, 254, 255, 255, 255, 0]);
    }

    #[test]
    fn a_manifest_cannot_smuggle_in_a_zero_deviation() {
        let refused =
            |json: &str| serde_json::from_str::<Normalisation>(json).unwrap_err().to_string();
        assert!(
            refused(r#"{"mean":[0.5,0.5,0.5],"std":[0.2,0,0.2]}"#)
                .contains("std of channel 1 is 0")
        );
        assert!(
            refused(r#"{"mean":[0.5,0.5,0.5],"std":[0.2,0.2,-1]}"#)
                .contains("std of channel 2 is -1")
        );
        assert!(Normalisation::new([f32::NAN; 3], [1.0; 3]).is_err());
        let round_trip: Normalisation =
            serde_json::from_str(&serde_json::to_string(&CAMELYON).unwrap()).unwrap();
        assert_eq!(round_trip, CAMELYON);
    }
}
