//! The carry: a variant as the tile itself and what the style changes about it, so that the tile
//! keeps the detail that the model's reconstruction loses.
//!
//! variant = tile + Za·style − Za·Zc, with Za·Zc the tile's own reconstruction. For a tile of the
//! model's size it is made from the residual, tile − round(Za·Zc), which is computed once:
//! variant = clamp(round(Za·style + residual)). That is the product as before with another offset,
//! so that it costs next to nothing. A tile of another size needs the change alone,
//! [`Synthesiser::change`], for [`crate::upsample`].
//!
//! The residual also gives the tile back, exactly: [`Synthesiser::restore`].

mod residual;

use super::super::geometry::CHANNELS;
use super::super::patches::PixelOrder;
use super::kernel::{self, Target};
use super::{Element, Scratch, Synthesiser};
pub use residual::Residual;

/// What the variants of a tile of the model's size are carried by.
#[derive(Clone, Copy, Debug)]
pub struct Carry<'a, T> {
    /// `[N, h]`
    pub anatomy: &'a [T],
    /// `[H, W, 3]`
    pub residual: &'a Residual,
}

/// The largest PSNR that is returned, dB: that of an exact reconstruction is infinite, which JSON
/// cannot carry.
const MOST_DB: f64 = 99.0;

impl Synthesiser {
    /// Compares a tile with its reconstruction: returns the residual and the reconstruction's PSNR,
    /// dB, at most 99.
    ///
    /// # Shapes
    /// `anatomy` `[N, h]`, `characteristics` `[N, S]`, `tile` `[H, W, 3] u8`.
    ///
    /// # Panics
    /// When a length does not fit the geometry, or `scratch` was made for another one.
    pub fn compare<T: Element>(
        &self,
        anatomy: &[T],
        characteristics: &[T],
        tile: &[u8],
        scratch: &mut Scratch,
    ) -> (Residual, f32) {
        let mut wide = vec![0; tile.len()];
        let mut squares = 0.0;
        self.reconstruct(anatomy, characteristics, scratch, |band, levels| {
            let part = band * levels.len()..(band + 1) * levels.len();
            let (tile, wide) = (&tile[part.clone()], &mut wide[part]);
            squares += residual::subtract(self.order, levels, tile, wide);
        });
        let psnr = 10.0 * (255.0 * 255.0 * tile.len() as f64 / squares).log10();
        (Residual::new(wide), psnr.min(MOST_DB) as f32)
    }

    /// Gives a tile back, byte for byte: its reconstruction and its residual.
    ///
    /// # Shapes
    /// `characteristics` `[N, S]`, `out` `[H, W, 3] u8`.
    ///
    /// # Panics
    /// When a length does not fit the geometry, or `scratch` was made for another one.
    pub fn restore<T: Element>(
        &self,
        tile: Carry<'_, T>,
        characteristics: &[T],
        scratch: &mut Scratch,
        out: &mut [u8],
    ) {
        assert_eq!(out.len(), self.geometry.tile_bytes(), "out is [H, W, 3]");
        self.reconstruct(tile.anatomy, characteristics, scratch, |band, levels| {
            let part = band * levels.len()..(band + 1) * levels.len();
            tile.residual.add(self.order, part.start, levels, &mut out[part]);
        });
    }

    /// Hands out the reconstruction in whole levels, band by band, in the order of the product.
    fn reconstruct<T: Element>(
        &self,
        anatomy: &[T],
        characteristics: &[T],
        scratch: &mut Scratch,
        mut each: impl FnMut(usize, &[f32]),
    ) {
        self.check_characteristics(characteristics.len());
        self.check(anatomy.len(), scratch, self.geometry.tile_bytes());
        let bands = self.bands(anatomy).zip(self.style_bands(characteristics));
        for (band, (anatomy, characteristics)) in bands.enumerate() {
            let anatomy = T::widen(anatomy, &mut scratch.anatomy);
            let characteristics = T::widen(characteristics, &mut scratch.characteristics);
            let product = self.band(anatomy, characteristics, self.geometry.style_len());
            kernel::synthesise(&product, Target::Levels(&mut scratch.levels));
            each(band, &scratch.levels);
        }
    }

    /// Makes a carried variant for each style, as [`Synthesiser::broadcast_each`] does bare ones.
    ///
    /// # Shapes
    /// `styles` `[S] f32` each, `outs` `[H, W, 3] u8` each.
    ///
    /// # Panics
    /// When a length does not fit the geometry, `scratch` was made for another one, or there are
    /// not as many styles as tiles.
    pub fn carry_each<T: Element>(
        &self,
        tile: Carry<'_, T>,
        styles: &[&[f32]],
        scratch: &mut Scratch,
        outs: &mut [&mut [u8]],
    ) {
        assert_eq!(styles.len(), outs.len(), "a style for each tile");
        for (style, out) in styles.iter().zip(outs.iter()) {
            assert_eq!(style.len(), self.geometry.style_len(), "style is [S]");
            self.check(tile.anatomy.len(), scratch, out.len());
        }
        let each = scratch.planes.len();
        for (band, anatomy) in self.bands(tile.anatomy).enumerate() {
            let anatomy = T::widen(anatomy, &mut scratch.anatomy);
            let offset = self.offset(tile.residual, band, &mut scratch.offset);
            for (style, out) in styles.iter().zip(outs.iter_mut()) {
                let out = &mut out[band * each..][..each];
                let target = Target::Carried { offset, planes: &mut scratch.planes, out };
                kernel::synthesise(&self.band(anatomy, style, 0), target);
            }
        }
    }

    /// Makes a carried variant with characteristics of its own for every patch, as
    /// [`Synthesiser::aligned`] does a bare one.
    ///
    /// # Shapes
    /// `characteristics` `[N, S]`, `out` `[H, W, 3] u8`.
    ///
    /// # Panics
    /// When a length does not fit the geometry, or `scratch` was made for another one.
    pub fn carry_aligned<T: Element, S: Element>(
        &self,
        tile: Carry<'_, T>,
        characteristics: &[S],
        scratch: &mut Scratch,
        out: &mut [u8],
    ) {
        self.check_characteristics(characteristics.len());
        self.check(tile.anatomy.len(), scratch, out.len());
        let bands = self.bands(tile.anatomy).zip(self.style_bands(characteristics));
        for (band, ((anatomy, characteristics), out)) in bands.zip(self.out_bands(out)).enumerate()
        {
            let anatomy = T::widen(anatomy, &mut scratch.anatomy);
            let characteristics = S::widen(characteristics, &mut scratch.characteristics);
            let offset = self.offset(tile.residual, band, &mut scratch.offset);
            let target = Target::Carried { offset, planes: &mut scratch.planes, out };
            let product = self.band(anatomy, characteristics, self.geometry.style_len());
            kernel::synthesise(&product, target);
        }
    }

    /// The residual of a band with the mean, in the order of the product.
    fn offset<'a>(&self, residual: &Residual, band: usize, buffer: &'a mut [f32]) -> &'a [f32] {
        assert_eq!(residual.len(), self.geometry.tile_bytes(), "the residual is [H, W, 3]");
        let (start, plane, mean) = (band * buffer.len(), buffer.len() / CHANNELS, self.mean());
        match self.order {
            PixelOrder::Planar => {
                for (c, buffer) in buffer.chunks_exact_mut(plane).enumerate() {
                    residual.shift(start + c * plane, [mean[c]; CHANNELS], buffer);
                }
            }
            PixelOrder::Interleaved => residual.shift(start, mean, buffer),
        }
        buffer
    }

    /// Computes what a style changes, in levels: the product of the anatomy with the difference of
    /// two characteristics, which [`Synthesiser::difference_into`] makes. Not rounded, not clamped.
    ///
    /// # Shapes
    /// `anatomy` `[N, h]`, `difference` `[N, S]`, `out` `[H, W, 3] f32`.
    ///
    /// # Panics
    /// When a length does not fit the geometry, or `scratch` was made for another one.
    pub fn change<T: Element>(
        &self,
        anatomy: &[T],
        difference: &[f32],
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        self.check_characteristics(difference.len());
        self.check(anatomy.len(), scratch, out.len());
        let bands = self.bands(anatomy).zip(self.style_bands(difference));
        for ((anatomy, difference), out) in bands.zip(out.chunks_exact_mut(scratch.levels.len())) {
            let anatomy = T::widen(anatomy, &mut scratch.anatomy);
            let target = Target::Change { planes: &mut scratch.levels, out };
            kernel::synthesise(&self.band(anatomy, difference, self.geometry.style_len()), target);
        }
    }

    /// Computes by how much characteristics change: (style − own)·strength in every patch.
    ///
    /// # Shapes
    /// `own` `[N, S]`, `style` `[S] f32`, `out` `[N, S] f32`.
    ///
    /// # Panics
    /// When a length does not fit the geometry.
    pub fn difference_into<S: Element>(
        &self,
        own: &[S],
        style: &[f32],
        strength: f32,
        out: &mut [f32],
    ) {
        self.combine(own, style, out, |own, style| (style - own) * strength);
    }
}
