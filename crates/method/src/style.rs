//! A style: one token's characteristics, and mixtures of several.
//!
//! The product is linear in the style, so a blend of styles makes the blend of their variants exactly (before
//! clipping), with nothing encoded again. Which style is used for which tile is not decided here.

/// One vector of h numbers, seen as [C, L, P].
#[derive(Clone, Debug, PartialEq)]
pub struct Style(pub Vec<f32>);

/// Why styles cannot be blended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BlendError {
    #[error("there is no style to blend")]
    Empty,
    #[error("style {index} has {len} numbers, and the first has {first}")]
    Length { index: usize, len: usize, first: usize },
    #[error("weight {index} is {weight}, and must be finite and not negative")]
    Weight { index: usize, weight: f32 },
    #[error("the weights sum to {0}, and must sum to a finite number above 0")]
    Sum(f32),
}

impl Style {
    /// Σ wᵢ·styleᵢ / Σ wᵢ.
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

    /// own·(1−s) + style·s for one token: strength 0 keeps the tile's own look, 1 takes the style whole.
    ///
    /// # Panics
    /// When `own` is not as long as the style.
    pub fn with_strength(&self, own: &[f32], strength: f32) -> Style {
        assert_eq!(own.len(), self.0.len(), "the same half");
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
