//! The product in its plainest form. Tests compare the fast path and the trainer's product with it.
//!
//! It makes standardised values, not pixels, without SIMD, and allocates at every call: nothing
//! here is used to serve.

use super::super::geometry::{CHANNELS, Geometry};
use super::super::patches::PixelOrder;

/// Returns standardised values `[C, H, W] f32` from anatomy `[N, h]` and one style `[S]` for every
/// patch.
pub fn values_broadcast(
    geometry: &Geometry,
    order: PixelOrder,
    anatomy: &[f32],
    style: &[f32],
) -> Vec<f32> {
    values_aligned(geometry, order, anatomy, &style.repeat(geometry.patches()))
}

/// Returns standardised values `[C, H, W] f32` from anatomy `[N, h]` and characteristics `[N, S]`,
/// patch by patch.
pub fn values_aligned(
    geometry: &Geometry,
    order: PixelOrder,
    anatomy: &[f32],
    characteristics: &[f32],
) -> Vec<f32> {
    let (side, size, rank, half) =
        (geometry.image_size(), geometry.patch_size(), geometry.rank(), geometry.half());
    let mut values = vec![0.0; geometry.tile_bytes()];
    for patch in 0..geometry.patches() {
        let za = &anatomy[patch * half..][..half];
        let style = &characteristics[patch * geometry.style_len()..][..geometry.style_len()];
        let (zc, bias) = style.split_at(half);
        let (top, left) = (patch / geometry.grid() * size, patch % geometry.grid() * size);
        for index in 0..geometry.patch_values() {
            let (plane, i, j) = (index / (size * size), index / size % size, index % size);
            let product: f32 = (0..rank)
                .map(|l| za[(plane * size + i) * rank + l] * zc[(plane * rank + l) * size + j])
                .sum();
            let (row, column, channel) = order.place(size, index);
            let constant = bias.get(plane * size + j).unwrap_or(&0.0);
            values[(channel * side + top + row) * side + left + column] = product + constant;
        }
    }
    debug_assert_eq!(half, CHANNELS * size * rank);
    values
}
