//! One band of patches: the product, the way to bytes, and the interleaving of channels.
//!
//! Safe Rust that LLVM vectorises; `multiversion` compiles [`synthesise`] and all that is inlined into it once for each
//! SIMD level and picks at run time. Latents arrive as f32: half precision is widened before, a band at a time.

use super::super::geometry::CHANNELS;
use super::super::normalise::to_byte;
use super::super::patches::PixelOrder;
use multiversion::{multiversion, target::target_cfg_f};

/// What one row of patches is made from.
pub(super) struct Band<'a> {
    /// P.
    pub size: usize,
    /// L.
    pub rank: usize,
    pub order: PixelOrder,
    /// `[3, P]` each: pixel = value·scale + offset; see [`Band::table`].
    pub scale: &'a [f32],
    pub offset: &'a [f32],
    /// `[patches of the band, C, P, L]`
    pub anatomy: &'a [f32],
    /// `[C, L, P]`, `stride` numbers from one patch to the next.
    pub characteristics: &'a [f32],
    /// 0 (broadcast) or h (aligned).
    pub stride: usize,
}

impl Band<'_> {
    /// Numbers in the latents of one patch, h.
    fn half(&self) -> usize {
        CHANNELS * self.size * self.rank
    }
}

/// Fills `out` `[P, W, 3] u8`; `planes` `[C, P, W] u8` is working space.
#[multiversion(targets = "simd")]
pub(super) fn synthesise(band: &Band, planes: &mut [u8], out: &mut [u8]) {
    // A fused multiply-add without the instruction is a slow library call.
    if target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64")) {
        dispatch::<true>(band, planes, out)
    } else {
        dispatch::<false>(band, planes, out)
    }
}

#[inline(always)]
fn dispatch<const FUSED: bool>(band: &Band, planes: &mut [u8], out: &mut [u8]) {
    let target: &mut [u8] = if band.order == PixelOrder::Planar { planes } else { out };
    let _ = FUSED;
    product_any(band, target);
    if band.order == PixelOrder::Planar {
        interleave(planes, out);
    }
}

/// Any patch side, row by row.
#[inline(always)]
fn product_any(band: &Band, target: &mut [u8]) {
    let (size, rank, half) = (band.size, band.rank, band.half());
    let width = band.anatomy.len() / half * size;
    for (patch, anatomy) in band.anatomy.chunks_exact(half).enumerate() {
        let style = &band.characteristics[patch * band.stride..][..half];
        for (q, row) in anatomy.chunks_exact(rank).enumerate() {
            let plane = q / size;
            let (start, phase) = place(band.order, size, width, q, patch);
            let pixels = &mut target[start..][..size];
            for (j, pixel) in pixels.iter_mut().enumerate() {
                let sum: f32 = row.iter().enumerate().map(|(l, a)| a * style[(plane * rank + l) * size + j]).sum();
                *pixel = to_byte(sum * band.scale[phase * size + j] + band.offset[phase * size + j]);
            }
        }
    }
}

/// Where row `q` of the product of patch `patch` goes, and which row of the scale table it takes.
#[inline(always)]
fn place(order: PixelOrder, size: usize, width: usize, q: usize, patch: usize) -> (usize, usize) {
    match order {
        // Into planes [C, P, W].
        PixelOrder::Planar => (q * width + patch * size, q / size),
        // Straight into [P, W, 3]: three rows of the product lie end to end in one row of pixels.
        PixelOrder::Interleaved => (q / CHANNELS * CHANNELS * width + patch * CHANNELS * size + q % CHANNELS * size, q * size % CHANNELS),
    }
}

/// `[C, P, W]` → `[P, W, C]`.
#[inline(always)]
fn interleave(planes: &[u8], out: &mut [u8]) {
    let (red, rest) = planes.split_at(planes.len() / CHANNELS);
    let (green, blue) = rest.split_at(rest.len() / 2);
    for (((pixel, r), g), b) in out.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(red).zip(green).zip(blue) {
        *pixel = [*r, *g, *b];
    }
}
