//! Synthesis: anatomy × characteristics → pixels. It has no parameters and makes every variant.
//!
//! A channel of a patch is the product of its anatomy `[P, L]` and characteristics `[L, P]`. A tile
//! is encoded once, and each of its variants costs only this product, so that this is the hot path
//! of the server. Pixels are written as bytes, denormalised, rounded and clamped, one band (a row
//! of patches) at a time, so that the data between the cached latents and the response stays in the
//! L1 and L2 caches. Nothing here chooses styles or allocates after [`Synthesiser::scratch`].

mod carry;
mod kernel;
pub mod reference;
mod sink;

use super::geometry::{CHANNELS, Geometry};
use super::normalise::Normalisation;
use super::patches::PixelOrder;
pub use carry::{Carry, Residual};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use kernel::{Band, Target};

/// The number types of latents: `f32`, or `f16` at half the memory.
pub trait Element: Copy + Send + Sync + sealed::Sealed {
    /// Returns the slice as `f32`: itself, or widened into `buffer`, which must be at least as
    /// long.
    #[doc(hidden)]
    fn widen<'a>(slice: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32];
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
}

impl Element for f32 {
    fn widen<'a>(slice: &'a [Self], _: &'a mut [f32]) -> &'a [f32] {
        slice
    }
}

impl Element for f16 {
    fn widen<'a>(slice: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32] {
        let buffer = &mut buffer[..slice.len()];
        kernel::widen(slice.reinterpret_cast(), buffer);
        buffer
    }
}

/// Makes tiles of one geometry, pixel order and normalisation.
///
/// ```
/// use restain_method::geometry::GeometrySpec;
/// use restain_method::synth::Synthesiser;
/// use restain_method::{Geometry, Normalisation, PixelOrder};
///
/// // Tiles of 4 × 4 pixels in patches of 2 × 2: N = 4, h = S = 12, L = 2.
/// let geometry = Geometry::new(GeometrySpec {
///     image_size: 4,
///     in_channels: 3,
///     patch_size: 2,
///     embed_dim: 24,
///     depth: 1,
///     num_heads: 1,
///     mlp_ratio: 4.0,
///     style_bias: false,
/// })?;
/// let normalisation = Normalisation::new([0.5; 3], [0.25; 3])?;
/// let synth = Synthesiser::new(geometry, PixelOrder::Planar, normalisation);
///
/// let anatomy = vec![1.0f32; geometry.tile_anatomy()];
/// let style = vec![0.5; geometry.style_len()];
/// let mut tile = vec![0; geometry.tile_bytes()];
/// synth.broadcast(&anatomy, &style, &mut synth.scratch(), &mut tile);
/// // Each value is 2 × (1 · 0.5) = 1: pixel (1 · 0.25 + 0.5) · 255 = 191.25.
/// assert_eq!(tile, [191; 48]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Synthesiser {
    geometry: Geometry,
    order: PixelOrder,
    normalisation: Normalisation,
    /// `[3, P]` each: what turns values into 0..=255, for the three ways in which a row of the
    /// product starts.
    scale: Vec<f32>,
    offset: Vec<f32>,
}

/// Buffers that calls reuse; one for each thread.
#[derive(Clone, Debug)]
pub struct Scratch {
    /// `[grid, h]`: a band's anatomy, widened.
    anatomy: Vec<f32>,
    /// `[grid, S]`: a band's characteristics, widened.
    characteristics: Vec<f32>,
    /// `[C, P, W]`: a band's pixels before its channels are interleaved.
    planes: Vec<u8>,
    /// `[C, P, W]`: a band's change before its channels are interleaved, or its levels.
    levels: Vec<f32>,
    /// `[C, P, W]`: a band's residual and the mean.
    offset: Vec<f32>,
}

impl Synthesiser {
    /// Precomputes the affine map from values to pixels.
    pub fn new(geometry: Geometry, order: PixelOrder, normalisation: Normalisation) -> Self {
        let size = geometry.patch_size();
        let (scale, offset) = normalisation.to_byte_scale();
        // Planar: a row of the product lies in one channel. Interleaved: channels alternate along
        // it, and the row may start with any of them.
        let spread = |of: [f32; 3]| {
            let channel = |index: usize| match order {
                PixelOrder::Planar => index / size,
                PixelOrder::Interleaved => (index / size + index % size) % CHANNELS,
            };
            (0..CHANNELS * size).map(|index| of[channel(index)]).collect()
        };
        Self { geometry, order, normalisation, scale: spread(scale), offset: spread(offset) }
    }

    /// The sizes of the model.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The order of the pixels of a patch.
    pub fn pixel_order(&self) -> PixelOrder {
        self.order
    }

    /// What standardised values are pixels of.
    pub fn normalisation(&self) -> &Normalisation {
        &self.normalisation
    }

    /// Allocates the buffers that calls reuse.
    pub fn scratch(&self) -> Scratch {
        let grid = self.geometry.grid();
        let planes = CHANNELS * self.geometry.patch_size() * self.geometry.image_size();
        Scratch {
            anatomy: vec![0.0; grid * self.geometry.half()],
            characteristics: vec![0.0; grid * self.geometry.style_len()],
            planes: vec![0; planes],
            levels: vec![0.0; planes],
            offset: vec![0.0; planes],
        }
    }

    /// Makes a tile with one style for every patch.
    ///
    /// # Shapes
    /// `anatomy` `[N, h]`, `style` `[S] f32`, `out` `[H, W, 3] u8`.
    ///
    /// # Panics
    /// When a length does not fit the geometry, or `scratch` was made for another one.
    pub fn broadcast<T: Element>(
        &self,
        anatomy: &[T],
        style: &[f32],
        scratch: &mut Scratch,
        out: &mut [u8],
    ) {
        self.broadcast_each(anatomy, &[style], scratch, &mut [out]);
    }

    /// Makes a tile for each style, as [`Synthesiser::broadcast`] does for one, and widens the
    /// anatomy once for all.
    ///
    /// # Shapes
    /// `anatomy` `[N, h]`, `styles` `[S] f32` each, `outs` `[H, W, 3] u8` each.
    ///
    /// # Panics
    /// When a length does not fit the geometry, `scratch` was made for another one, or there are
    /// not as many styles as tiles.
    pub fn broadcast_each<T: Element>(
        &self,
        anatomy: &[T],
        styles: &[&[f32]],
        scratch: &mut Scratch,
        outs: &mut [&mut [u8]],
    ) {
        assert_eq!(styles.len(), outs.len(), "a style for each tile");
        for (style, out) in styles.iter().zip(outs.iter()) {
            assert_eq!(style.len(), self.geometry.style_len(), "style is [S]");
            self.check(anatomy.len(), scratch, out.len());
        }
        let band_bytes = self.geometry.patch_size() * self.geometry.image_size() * CHANNELS;
        for (band, anatomy) in self.bands(anatomy).enumerate() {
            let anatomy = T::widen(anatomy, &mut scratch.anatomy);
            for (style, out) in styles.iter().zip(outs.iter_mut()) {
                let out = &mut out[band * band_bytes..][..band_bytes];
                let target = Target::Pixels { planes: &mut scratch.planes, out };
                kernel::synthesise(&self.band(anatomy, style, 0), target);
            }
        }
    }

    /// Makes a tile with characteristics of its own for every patch.
    ///
    /// # Shapes
    /// `anatomy` `[N, h]`, `characteristics` `[N, S]`, `out` `[H, W, 3] u8`.
    ///
    /// # Panics
    /// When a length does not fit the geometry, or `scratch` was made for another one.
    pub fn aligned<T: Element, S: Element>(
        &self,
        anatomy: &[T],
        characteristics: &[S],
        scratch: &mut Scratch,
        out: &mut [u8],
    ) {
        self.check_characteristics(characteristics.len());
        self.check(anatomy.len(), scratch, out.len());
        for ((anatomy, characteristics), out) in
            self.bands(anatomy).zip(self.style_bands(characteristics)).zip(self.out_bands(out))
        {
            let anatomy = T::widen(anatomy, &mut scratch.anatomy);
            let characteristics = S::widen(characteristics, &mut scratch.characteristics);
            let target = Target::Pixels { planes: &mut scratch.planes, out };
            let band = self.band(anatomy, characteristics, self.geometry.style_len());
            kernel::synthesise(&band, target);
        }
    }

    /// Blends a style into a tile's own characteristics, for [`Synthesiser::aligned`]: own·(1−s) +
    /// style·s in every patch.
    ///
    /// # Shapes
    /// `own` `[N, S]`, `style` `[S] f32`, `out` `[N, S] f32`.
    ///
    /// # Panics
    /// When a length does not fit the geometry.
    pub fn blend_into<S: Element>(&self, own: &[S], style: &[f32], strength: f32, out: &mut [f32]) {
        self.combine(own, style, out, |own, style| own * (1.0 - strength) + style * strength);
    }

    /// Computes `of(own, style)` for every number of every patch.
    fn combine<S: Element>(
        &self,
        own: &[S],
        style: &[f32],
        out: &mut [f32],
        of: impl Fn(f32, f32) -> f32,
    ) {
        let (each, all) = (self.geometry.style_len(), self.geometry.tile_characteristics());
        assert_eq!((own.len(), style.len(), out.len()), (all, each, all));
        let mut row = [0.0; 256];
        for (own, out) in own.chunks_exact(each).zip(out.chunks_exact_mut(each)) {
            let pieces =
                own.chunks(row.len()).zip(style.chunks(row.len())).zip(out.chunks_mut(row.len()));
            for ((own, style), out) in pieces {
                for ((out, own), style) in out.iter_mut().zip(S::widen(own, &mut row)).zip(style) {
                    *out = of(*own, *style);
                }
            }
        }
    }

    /// The mean of each channel in levels: in both orders, row n of the table begins with channel
    /// n.
    fn mean(&self) -> [f32; CHANNELS] {
        [0, 1, 2].map(|channel| self.offset[channel * self.geometry.patch_size()])
    }

    fn check(&self, anatomy: usize, scratch: &Scratch, out: usize) {
        let band = self.geometry.grid() * self.geometry.half();
        let planes = CHANNELS * self.geometry.patch_size() * self.geometry.image_size();
        assert_eq!(anatomy, self.geometry.tile_anatomy(), "anatomy is [N, h]");
        assert_eq!(out, self.geometry.tile_bytes(), "out is [H, W, 3]");
        assert_eq!(
            (scratch.anatomy.len(), scratch.planes.len()),
            (band, planes),
            "scratch of this synthesiser"
        );
    }

    fn check_characteristics(&self, numbers: usize) {
        let expected = self.geometry.tile_characteristics();
        assert_eq!(numbers, expected, "characteristics are [N, S]");
    }

    fn bands<'a, T>(&self, anatomy: &'a [T]) -> std::slice::ChunksExact<'a, T> {
        anatomy.chunks_exact(self.geometry.grid() * self.geometry.half())
    }

    fn style_bands<'a, T>(&self, characteristics: &'a [T]) -> std::slice::ChunksExact<'a, T> {
        characteristics.chunks_exact(self.geometry.grid() * self.geometry.style_len())
    }

    fn out_bands<'a>(&self, out: &'a mut [u8]) -> std::slice::ChunksExactMut<'a, u8> {
        out.chunks_exact_mut(CHANNELS * self.geometry.patch_size() * self.geometry.image_size())
    }

    fn band<'a>(
        &'a self,
        anatomy: &'a [f32],
        characteristics: &'a [f32],
        stride: usize,
    ) -> Band<'a> {
        let (size, rank) = (self.geometry.patch_size(), self.geometry.rank());
        Band {
            size,
            rank,
            order: self.order,
            scale: &self.scale,
            offset: &self.offset,
            anatomy,
            characteristics,
            stride,
            style_len: self.geometry.style_len(),
        }
    }
}

#[cfg(test)]
mod tests;
