//! Overlap of nuclei in two pictures: a haematoxylin mask of each, and the Dice coefficient of the
//! two.
//!
//! The haematoxylin channel is that of colour deconvolution (Ruifrok, Johnston 2001). The mask is
//! what lies above Otsu's threshold (1979) of the picture's own channel: a darker stain moves the
//! threshold with it. The mask does not separate nuclei, and it includes ink and folds.

use super::super::color::HED_FROM_RGB;

/// Bins of the histogram that Otsu's threshold is sought in.
const BINS: usize = 256;

/// Returns for each pixel of `[.., 3] u8` whether it holds more haematoxylin than the picture's own
/// threshold. In a picture of one colour no pixel does.
pub fn haematoxylin_mask(tile: &[u8]) -> Vec<bool> {
    let density: [f32; 256] = std::array::from_fn(|level| -((level as f32).max(0.5) / 255.0).ln());
    let amount = |pixel: &[u8; 3]| {
        // Densities are a row vector: haematoxylin is the first column.
        let amount: f32 = (0..3).map(|c| density[usize::from(pixel[c])] * HED_FROM_RGB[c][0]).sum();
        amount.max(0.0)
    };
    let amounts: Vec<f32> = tile.as_chunks::<3>().0.iter().map(amount).collect();
    let threshold = otsu(&amounts);
    amounts.iter().map(|amount| *amount > threshold).collect()
}

/// Returns the Dice coefficient 2|A∩B| / (|A|+|B|); 1 when both are empty.
///
/// # Panics
/// When the lengths differ.
pub fn dice(a: &[bool], b: &[bool]) -> f64 {
    assert_eq!(a.len(), b.len(), "masks of one size");
    let count = |of: fn((&bool, &bool)) -> bool| a.iter().zip(b).filter(|&pair| of(pair)).count();
    match count(|(a, _)| *a) + count(|(_, b)| *b) {
        0 => 1.0,
        sum => 2.0 * count(|(a, b)| *a && *b) as f64 / sum as f64,
    }
}

/// The middle of the bin below which and above which values differ most: the largest w₀w₁(μ₀−μ₁)².
fn otsu(values: &[f32]) -> f32 {
    let (low, high) = values
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)));
    if low >= high {
        return high;
    }
    let width = (f64::from(high) - f64::from(low)) / BINS as f64;
    let mut counts = [0.0; BINS];
    for value in values {
        counts[(((f64::from(*value) - f64::from(low)) / width) as usize).min(BINS - 1)] += 1.0;
    }
    let middle = |bin: usize| f64::from(low) + (bin as f64 + 0.5) * width;
    let all: f64 = values.len() as f64;
    let total: f64 = counts.iter().enumerate().map(|(bin, count)| count * middle(bin)).sum();
    let (mut below, mut sum_below, mut best) = (0.0, 0.0, (f64::NEG_INFINITY, 0));
    for (bin, count) in counts[..BINS - 1].iter().enumerate() {
        below += count;
        sum_below += count * middle(bin);
        let above = all - below;
        let between = below * above * (sum_below / below - (total - sum_below) / above).powi(2);
        if between > best.0 {
            best = (between, bin);
        }
    }
    middle(best.1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dark_blue_is_marked_and_pink_is_not_however_pale_the_picture() {
        let picture = |fade: u8| -> Vec<u8> {
            (0..100u8)
                .flat_map(|i| {
                    if i % 4 == 0 { [80, 60, 140] } else { [220, 160, 190] }
                        .map(|v: u8| v + (255 - v) / 10 * fade)
                })
                .collect()
        };
        let mask = haematoxylin_mask(&picture(0));
        assert!(mask.iter().enumerate().all(|(i, &marked)| marked == (i % 4 == 0)));
        assert_eq!(dice(&mask, &haematoxylin_mask(&picture(5))), 1.0);
    }

    #[test]
    fn dice_counts_what_both_mark() {
        assert_eq!(dice(&[true, true, false, false], &[true, false, true, true]), 0.4);
        assert_eq!(dice(&[false; 3], &[false; 3]), 1.0);
        assert_eq!(dice(&[true; 3], &[false; 3]), 0.0);
        assert_eq!(haematoxylin_mask(&[200; 30]), [false; 10]);
    }
}
