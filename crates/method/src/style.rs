//! Styles (the characteristics of one token) and their blends.
//!
//! The synthesiser's product is linear in the style, so a blend of styles makes the blend of their
//! variants exactly (before clipping), and no tile is encoded again. The choice of a style for a
//! tile is not made here: see the server's `styles`.

/// One vector of S numbers: row-major `[C, L, P] f32`, and with a style bias `[C, P]` after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Style(pub Vec<f32>);

/// Why styles cannot be blended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BlendError {
    /// The list is empty.
    #[error("there is no style to blend")]
    Empty,
    /// The styles are of different models.
    #[error("style {index} has {len} numbers, and the first has {first}")]
    Length {
        /// Place of the style in the list, from 0.
        index: usize,
        /// Its length.
        len: usize,
        /// The length of the first style.
        first: usize,
    },
    /// A weight is negative, infinite or NaN.
    #[error("weight {index} is {weight}, and must be finite and not negative")]
    Weight {
        /// Place of the weight in the list, from 0.
        index: usize,
        /// Its value.
        weight: f32,
    },
    /// All weights are 0, or their sum is infinite.
    #[error("the weights sum to {0}, and must sum to a finite number above 0")]
    Sum(f32),
}

impl Style {
    /// Returns the weighted mean Σ wᵢ·styleᵢ / Σ wᵢ.
    ///
    /// ```
    /// use restain_method::Style;
    ///
    /// let (a, b) = (Style(vec![0.0, 4.0]), Style(vec![8.0, 0.0]));
    /// assert_eq!(Style::blend(&[(3.0, &a), (1.0, &b)])?, Style(vec![2.0, 3.0]));
    /// # Ok::<(), restain_method::style::BlendError>(())
    /// ```
    ///
    /// # Errors
    /// When the list is empty, lengths differ, or the weights have no positive, finite sum.
    pub fn blend(weighted: &[(f32, &Style)]) -> Result<Style, BlendError> {
        let first = weighted.first().ok_or(BlendError::Empty)?.1.0.len();
        for (index, (weight, style)) in weighted.iter().enumerate() {
            if style.0.len() != first {
                return Err(BlendError::Length { index, len: style.0.len(), first });
            }
            if !(weight.is_finite() && *weight >= 0.0) {
                return Err(BlendError::Weight { index, weight: *weight });
            }
        }
        let sum: f32 = weighted.iter().map(|(weight, _)| weight).sum();
        if !(sum.is_finite() && sum >= f32::MIN_POSITIVE) {
            return Err(BlendError::Sum(sum));
        }
        let mut blended = vec![0.0; first];
        for (weight, style) in weighted {
            for (out, value) in blended.iter_mut().zip(&style.0) {
                *out += weight / sum * value;
            }
        }
        Ok(Style(blended))
    }

    /// Returns own·(1−s) + style·s for one token: strength 0 keeps the tile's own characteristics,
    /// 1 replaces them by the style.
    ///
    /// # Shapes
    /// `own` `[S] f32`.
    ///
    /// # Panics
    /// When `own` and the style differ in length.
    pub fn with_strength(&self, own: &[f32], strength: f32) -> Style {
        assert_eq!(own.len(), self.0.len(), "the same model");
        Style(
            own.iter()
                .zip(&self.0)
                .map(|(own, style)| own * (1.0 - strength) + style * strength)
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_normalised() {
        let (a, b) = (Style(vec![0.0, 4.0]), Style(vec![8.0, 0.0]));
        assert_eq!(Style::blend(&[(3.0, &a), (1.0, &b)]).unwrap(), Style(vec![2.0, 3.0]));
        assert_eq!(Style::blend(&[(0.5, &a)]).unwrap(), a);
    }

    #[test]
    fn blends_that_mean_nothing_are_refused() {
        let (a, b) = (Style(vec![1.0, 2.0]), Style(vec![1.0]));
        assert_eq!(Style::blend(&[]), Err(BlendError::Empty));
        assert_eq!(
            Style::blend(&[(1.0, &a), (1.0, &b)]),
            Err(BlendError::Length { index: 1, len: 1, first: 2 })
        );
        assert_eq!(
            Style::blend(&[(1.0, &a), (-1.0, &a)]),
            Err(BlendError::Weight { index: 1, weight: -1.0 })
        );
        assert_eq!(Style::blend(&[(0.0, &a)]), Err(BlendError::Sum(0.0)));
    }

    #[test]
    fn strength_zero_is_the_tiles_own_and_one_is_the_style() {
        let (style, own) = (Style(vec![3.0, 5.0]), [1.0, -1.0]);
        assert_eq!(style.with_strength(&own, 0.0).0, own);
        assert_eq!(style.with_strength(&own, 1.0), style);
        assert_eq!(style.with_strength(&own, 0.5).0, [2.0, 2.0]);
    }
}
