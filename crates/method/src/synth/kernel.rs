//! One band of patches: the product, the way to bytes, and the interleaving of channels.
//!
//! Safe Rust that LLVM vectorises; `multiversion` compiles [`synthesise`] and all that is inlined
//! into it once for each SIMD level and picks at run time. Latents arrive as f32: half precision is
//! widened before, a band at a time. What becomes of a row of the product is its [`Sink`]'s matter,
//! so that an addition to it costs no pass of its own.

use super::super::geometry::CHANNELS;
use super::super::patches::PixelOrder;
use super::sink::{Bytes, Carried, Change, Levels, Sink, multiply_add};
use multiversion::{multiversion, target::target_cfg_f};

/// What one row of patches is made from.
pub(super) struct Band<'a> {
    /// P.
    pub size: usize,
    /// L.
    pub rank: usize,
    pub order: PixelOrder,
    /// `[3, P]` each: pixel = value·scale + offset; [`place`] says which row applies.
    pub scale: &'a [f32],
    pub offset: &'a [f32],
    /// `[patches of the band, C, P, L]`
    pub anatomy: &'a [f32],
    /// `[C, L, P]`, and with a style bias `[C, P]` after it; `stride` numbers from one patch to the
    /// next.
    pub characteristics: &'a [f32],
    /// 0 (broadcast) or S (aligned).
    pub stride: usize,
    /// S: numbers in the characteristics of one patch.
    pub style_len: usize,
}

impl<'a> Band<'a> {
    /// Numbers in the anatomy of one patch, h.
    fn half(&self) -> usize {
        CHANNELS * self.size * self.rank
    }

    /// The characteristics of one patch, `[C, L, P]`, and their bias, `[C, P]` or nothing.
    #[inline(always)]
    fn style(&self, patch: usize) -> (&'a [f32], &'a [f32]) {
        self.characteristics[patch * self.stride..][..self.style_len].split_at(self.half())
    }
}

/// What is made of the product.
pub(super) enum Target<'a> {
    /// `[P, W, 3]`: pixels; `planes` `[C, P, W]` is working space.
    Pixels { planes: &'a mut [u8], out: &'a mut [u8] },
    /// The same, with an offset for every value in the order of the product: `[C, P, W]` planar,
    /// `[P, W, 3]` interleaved.
    Carried { offset: &'a [f32], planes: &'a mut [u8], out: &'a mut [u8] },
    /// Whole levels in the order of the product.
    Levels(&'a mut [f32]),
    /// `[P, W, 3]`: the product in levels without the mean; `planes` `[C, P, W]` is working space.
    Change { planes: &'a mut [f32], out: &'a mut [f32] },
}

/// Makes what `target` asks for of a band.
#[multiversion(targets = "simd")]
pub(super) fn synthesise(band: &Band, target: Target) {
    // A fused multiply-add without the instruction is a slow library call.
    let fused = target_cfg_f!(any(target_feature = "fma", target_arch = "aarch64"));
    // With 32 registers the style of a plane stays in them when the rank is known when compiled;
    // with 16 it would be spilled, and reading it row by row is faster.
    let wide = target_cfg_f!(target_feature = "avx512f");
    match (fused, wide) {
        (true, true) => dispatch::<true, true>(band, target),
        (true, false) => dispatch::<true, false>(band, target),
        (false, _) => dispatch::<false, false>(band, target),
    }
}

#[inline(always)]
fn dispatch<const FUSED: bool, const WIDE: bool>(band: &Band, target: Target) {
    let planar = band.order == PixelOrder::Planar;
    match target {
        Target::Pixels { planes, out } if planar => {
            by_geometry::<FUSED, WIDE, true>(band, &mut Bytes(planes));
            interleave(planes, out);
        }
        Target::Pixels { out, .. } => {
            by_geometry::<FUSED, WIDE, false>(band, &mut Bytes(out));
        }
        Target::Carried { offset, planes, out } if planar => {
            by_geometry::<FUSED, WIDE, true>(band, &mut Carried { bytes: planes, offset });
            interleave(planes, out);
        }
        Target::Carried { offset, out, .. } => {
            by_geometry::<FUSED, WIDE, false>(band, &mut Carried { bytes: out, offset });
        }
        Target::Levels(levels) if planar => {
            by_geometry::<FUSED, WIDE, true>(band, &mut Levels(levels));
        }
        Target::Levels(levels) => by_geometry::<FUSED, WIDE, false>(band, &mut Levels(levels)),
        Target::Change { planes, out } if planar => {
            by_geometry::<FUSED, WIDE, true>(band, &mut Change(planes));
            interleave(planes, out);
        }
        Target::Change { out, .. } => by_geometry::<FUSED, WIDE, false>(band, &mut Change(out)),
    }
}

/// Common patch sides and ranks get code of their own; any other runs too. Rows of 8 do not: with
/// the rank known, the compiler joins two of them into one wide vector, and moving them there and
/// back costs more than it saves.
#[inline(always)]
fn by_geometry<const FUSED: bool, const WIDE: bool, const PLANAR: bool>(
    band: &Band,
    sink: &mut impl Sink,
) {
    match (band.size, band.rank) {
        (16, 8) if WIDE => product::<16, FUSED, PLANAR>(band, 8, sink),
        (16, 16) if WIDE => product::<16, FUSED, PLANAR>(band, 16, sink),
        (16, rank) => product::<16, FUSED, PLANAR>(band, rank, sink),
        (8, rank) => product::<8, FUSED, PLANAR>(band, rank, sink),
        _ => product_any(band, sink),
    }
}

/// Rows of the product that are made together, so that a row of the style is loaded once for all of
/// them. Four rows of 16 fill half of AVX2's registers.
const BLOCK: usize = 4;

/// A patch side known when compiled, so that rows are whole vectors.
#[inline(always)]
fn product<const P: usize, const FUSED: bool, const PLANAR: bool>(
    band: &Band,
    rank: usize,
    sink: &mut impl Sink,
) {
    let half = CHANNELS * P * rank;
    let width = band.anatomy.len() / half * P;
    let order = if PLANAR { PixelOrder::Planar } else { PixelOrder::Interleaved };
    let table = |values: &[f32]| -> [[f32; P]; CHANNELS] {
        values.as_chunks().0.try_into().expect("[3, P]")
    };
    let (scale, offset) = (table(band.scale), table(band.offset));
    for (patch, anatomy) in band.anatomy.chunks_exact(half).enumerate() {
        let (style, bias) = band.style(patch);
        let bias = if bias.is_empty() { [[0.0; P]; CHANNELS] } else { table(bias) };
        let planes = anatomy.chunks_exact(P * rank).zip(style.chunks_exact(rank * P));
        for (plane, (anatomy, style)) in planes.enumerate() {
            for (block, rows) in anatomy.chunks_exact(BLOCK * rank).enumerate() {
                let style = &style.as_chunks().0[..rank];
                let sums = times::<P, FUSED>(rows, style, &bias[plane]);
                for (r, sums) in sums.iter().enumerate() {
                    let (start, phase) = place(order, P, width, patch, (plane, block * BLOCK + r));
                    sink.row::<P, FUSED>(start, sums, (&scale[phase], &offset[phase]));
                }
            }
        }
    }
}

/// `[BLOCK, L]` · `[L, P]` + `[P]`
#[inline(always)]
fn times<const P: usize, const FUSED: bool>(
    rows: &[f32],
    style: &[[f32; P]],
    bias: &[f32; P],
) -> [[f32; P]; BLOCK] {
    let rank = style.len();
    let row = |r: usize| &rows[r * rank..][..rank];
    // Written out: `array::from_fn` stays a call here.
    let rows: [&[f32]; BLOCK] = [row(0), row(1), row(2), row(3)];
    let mut sums = [*bias; BLOCK];
    for (l, style) in style.iter().enumerate() {
        for (row, sums) in rows.iter().zip(&mut sums) {
            for j in 0..P {
                sums[j] = multiply_add::<FUSED>(row[l], style[j], sums[j]);
            }
        }
    }
    sums
}

/// Any patch side, row by row.
#[inline(always)]
fn product_any(band: &Band, sink: &mut impl Sink) {
    let (size, rank, half) = (band.size, band.rank, band.half());
    let width = band.anatomy.len() / half * size;
    for (patch, anatomy) in band.anatomy.chunks_exact(half).enumerate() {
        let (style, bias) = band.style(patch);
        for (q, row) in anatomy.chunks_exact(rank).enumerate() {
            let (plane, row_of_plane) = (q / size, q % size);
            let style = &style[plane * rank * size..][..rank * size];
            let (start, phase) = place(band.order, size, width, patch, (plane, row_of_plane));
            for j in 0..size {
                let constant = bias.get(plane * size + j).copied().unwrap_or(0.0);
                let column = style[j..].iter().step_by(size);
                let sum = row.iter().zip(column).fold(constant, |sum, (a, b)| sum + a * b);
                let (scale, offset) = (band.scale[phase * size + j], band.offset[phase * size + j]);
                sink.value(start + j, sum, (scale, offset));
            }
        }
    }
}

/// Where a row of the product goes, and which row of the scale table it takes.
#[inline(always)]
fn place(
    order: PixelOrder,
    size: usize,
    width: usize,
    patch: usize,
    (plane, row): (usize, usize),
) -> (usize, usize) {
    let q = plane * size + row;
    match order {
        // Into planes [C, P, W].
        PixelOrder::Planar => (q * width + patch * size, plane),
        // Straight into [P, W, 3]: three rows of the product lie end to end in one row of pixels.
        PixelOrder::Interleaved => {
            let (line, third) = (q / CHANNELS, q % CHANNELS);
            ((line * width + patch * size) * CHANNELS + third * size, third * size % CHANNELS)
        }
    }
}

/// `[C, P, W]` → `[P, W, C]`.
#[inline(always)]
fn interleave<T: Copy>(planes: &[T], out: &mut [T]) {
    let (red, rest) = planes.split_at(planes.len() / CHANNELS);
    let (green, blue) = rest.split_at(rest.len() / 2);
    for (((pixel, r), g), b) in
        out.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(red).zip(green).zip(blue)
    {
        *pixel = [*r, *g, *b];
    }
}

/// Half precision, as bits, to f32, exactly. As integer work and one multiplication it vectorises
/// everywhere and is inlined; the conversion instruction behind `half`'s slices costs a call for
/// every eight numbers.
#[multiversion(targets = "simd")]
pub(super) fn widen(halves: &[u16], wide: &mut [f32]) {
    for (half, wide) in halves.iter().zip(wide) {
        // Widened with its sign, the shift puts sign, exponent and mantissa where f32 has them; the
        // mask clears the copies of the sign between.
        let bits = (i32::from(half.cast_signed()) << 13).cast_unsigned() & 0x8fff_e000;
        // The exponent's bias is 15 in f16 and 127 in f32; multiplying also normalises f16's
        // subnormals.
        let scaled = f32::from_bits(bits) * f32::from_bits((127 + 127 - 15) << 23);
        // Infinity and NaN keep their largest exponent.
        let special = if half & 0x7c00 == 0x7c00 { 0xff << 23 } else { 0 };
        *wide = f32::from_bits(scaled.to_bits() | special);
    }
}
