//! The two halves of a token: anatomy `[N, h]` and characteristics `[N, S]`.
//!
//! The encoder's last layer returns `[N+1, E]` with the CLS token first. CLS takes no part in a
//! tile's pixels; this is the only place that drops it.

use super::geometry::Geometry;

/// Splits the tokens of one tile, of a model without a style bias, into anatomy and
/// characteristics.
///
/// # Shapes
/// `tokens` `[N, E]`, or `[N+1, E]` whose first row is CLS; `anatomy` and `characteristics` `[N,
/// h]` each.
///
/// # Panics
/// When a length does not fit the geometry.
pub fn split<T: Copy>(
    geometry: &Geometry,
    tokens: &[T],
    anatomy: &mut [T],
    characteristics: &mut [T],
) {
    let (embed_dim, half, patches) = (geometry.embed_dim(), geometry.half(), geometry.patches());
    let with_cls = tokens.len() == (patches + 1) * embed_dim;
    assert!(with_cls || tokens.len() == patches * embed_dim, "[N, E] or [N+1, E]");
    assert_eq!(
        (anatomy.len(), characteristics.len()),
        (patches * half, patches * half),
        "[N, h] each"
    );
    let rows = tokens.chunks_exact(embed_dim).skip(usize::from(with_cls));
    for ((row, anatomy), characteristics) in
        rows.zip(anatomy.chunks_exact_mut(half)).zip(characteristics.chunks_exact_mut(half))
    {
        anatomy.copy_from_slice(&row[..half]);
        characteristics.copy_from_slice(&row[half..]);
    }
}

/// Returns the characteristics of one patch.
///
/// # Shapes
/// `[S]` out of `[N, S]`.
///
/// # Panics
/// When `patch` is not less than N.
pub fn token<'a, T>(geometry: &Geometry, characteristics: &'a [T], patch: usize) -> &'a [T] {
    &characteristics[patch * geometry.style_len()..][..geometry.style_len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::GeometrySpec;

    #[test]
    fn cls_is_left_out_when_it_is_there() {
        let spec = GeometrySpec {
            image_size: 2,
            in_channels: 3,
            patch_size: 1,
            embed_dim: 12,
            depth: 1,
            num_heads: 1,
            mlp_ratio: 4.0,
            style_bias: false,
        };
        let geometry = Geometry::new(spec).unwrap();
        let tokens: Vec<u32> = (0..60).collect();
        for tokens in [&tokens[..], &tokens[12..]] {
            let (mut anatomy, mut characteristics) = (vec![0; 24], vec![0; 24]);
            split(&geometry, tokens, &mut anatomy, &mut characteristics);
            assert_eq!(anatomy[..7], [12, 13, 14, 15, 16, 17, 24]);
            assert_eq!(token(&geometry, &characteristics, 1), [30, 31, 32, 33, 34, 35]);
        }
    }
}
