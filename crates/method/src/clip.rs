//! How much of a variant is clipped: values that a change of stain has driven to 0 or to 255, where
//! differences between them are lost.
//!
//! They are counted in the bytes, after the change, so that the product stays as fast as it is. A
//! tile may have values at the limits itself, bright glass for one, which its variants keep: the
//! share is what a variant has beyond its tile.

use multiversion::multiversion;

/// Values that are counted side by side.
const LANES: usize = 64;

/// Counts the values at 0 or 255.
#[multiversion(targets = "simd")]
pub fn at_limits(values: &[u8]) -> usize {
    let mut sum = 0;
    // A lane counts in one byte: no further than that holds.
    for values in values.chunks(LANES * usize::from(u8::MAX)) {
        let (blocks, rest) = values.as_chunks::<LANES>();
        let mut counts = [0u8; LANES];
        for block in blocks {
            for (count, value) in counts.iter_mut().zip(block) {
                *count += u8::from(is_at_limit(*value));
            }
        }
        sum += counts.iter().map(|count| usize::from(*count)).sum::<usize>();
        sum += rest.iter().filter(|value| is_at_limit(**value)).count();
    }
    sum
}

/// Returns the share of a variant's values that are clipped, 0 to 1: those at 0 or 255, less the
/// `own` of its tile.
pub fn share(own: usize, variant: &[u8]) -> f32 {
    let beyond = at_limits(variant).saturating_sub(own);
    (beyond as f64 / variant.len().max(1) as f64) as f32
}

#[inline(always)]
fn is_at_limit(value: u8) -> bool {
    value.wrapping_add(1) <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_at_a_limit_is_counted_and_no_other() {
        for length in [0, 1, 63, 64, 65, LANES * 255 + 7, LANES * 512] {
            for (value, counts) in [(0, true), (255, true), (1, false), (254, false)] {
                let expected = if counts { length } else { 0 };
                assert_eq!(at_limits(&vec![value; length]), expected, "{length} of {value}");
            }
        }
        let all: Vec<u8> = (0..=255).cycle().take(256 * 300).collect();
        assert_eq!(at_limits(&all), 2 * 300);
    }

    #[test]
    fn the_share_is_what_a_variant_has_beyond_its_tile() {
        let (tile, variant) = ([0, 255, 7, 8], [0, 255, 0, 9]);
        assert_eq!(share(at_limits(&tile), &variant), 0.25);
        assert_eq!(share(at_limits(&tile), &tile), 0.0);
        assert_eq!(share(at_limits(&variant), &tile), 0.0, "never below none");
        assert_eq!(share(0, &[]), 0.0);
    }
}
