//! What is kept of a tile: its encoding, and what its variants are carried by.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use half::f16;
use restain_method::clip;
use restain_method::geometry::CHANNELS;
use restain_method::glass::Glass;
use restain_method::shrink::shrink;
use restain_method::synth::{Carry, Residual, Scratch, Synthesiser};
use restain_method::windows::Windows;
use restain_method::{Geometry, Style, latent};

/// What the encoder made of one tile, in the precision in which it is kept: whether a tile was
/// encoded just now or in another epoch, its variants are the same bytes.
#[derive(Clone, PartialEq)]
pub struct TileEncoding {
    /// Width and height of the tile as it came.
    pub size: (u32, u32),
    /// In which windows the model saw it.
    pub windows: Windows,
    /// PSNR of the tile's own reconstruction as the model saw it, dB, at most 99.
    pub fidelity: f32,
    /// Of each window anatomy `[N, h]`, then characteristics `[N, S]`.
    latents: Vec<f16>,
    /// Numbers of anatomy in a window, N·h.
    anatomy: usize,
    carried: Carried,
    /// From which patches a stain can be taken, once that was asked.
    stained: OnceLock<Vec<bool>>,
    /// The mean characteristics of these patches, once that was asked.
    stain: OnceLock<Option<Style>>,
    /// How many of the tile's values lie at 0 or 255, once that was asked.
    at_limits: OnceLock<usize>,
}

/// What a tile has that its encoding has not. Both forms take about one byte a value, so that a key
/// stands for a tile of any size.
#[derive(Clone, Debug, PartialEq)]
pub enum Carried {
    /// Of a tile of the model's size: what its reconstruction misses, and the pixels of its glass.
    Residual(Residual, Glass),
    /// The pixels of a tile of another size, or in several windows, `[height, width, 3] u8`; none
    /// of one window of several.
    Pixels(Bytes),
}

/// What the model saw in one window.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    /// `[N, h]`
    pub anatomy: &'a [f16],
    /// `[N, S]`
    pub characteristics: &'a [f16],
}

/// The tile that the model sees.
#[derive(Clone, Debug)]
pub enum Whole {
    /// It is what the model sees.
    Seen,
    /// It has another size, and these pixels, `[height, width, 3] u8`.
    Pixels(Bytes),
    /// The model sees a window of it: it is kept in memory, by a key that is no tile's, until who
    /// asked has all of them.
    Elsewhere,
}

impl TileEncoding {
    /// `latents`: of each window anatomy, `anatomy` numbers, then characteristics.
    pub fn new(
        size: (u32, u32),
        windows: Windows,
        fidelity: f32,
        (anatomy, latents): (usize, Vec<f16>),
        carried: Carried,
    ) -> Self {
        Self {
            size,
            windows,
            fidelity,
            latents,
            anatomy,
            carried,
            stained: OnceLock::new(),
            stain: OnceLock::new(),
            at_limits: OnceLock::new(),
        }
    }

    /// Puts together what is kept of a tile that the model saw in one window, or of one window of a
    /// larger tile. `seen` `[H, W, 3] u8` is what the model saw.
    pub(super) fn of(
        synthesiser: &Synthesiser,
        scratch: &mut Scratch,
        (size, latents): ((u32, u32), Vec<f16>),
        seen: &[u8],
        whole: &Whole,
    ) -> Self {
        let numbers = synthesiser.geometry().tile_anatomy();
        let (anatomy, characteristics) = latents.split_at(numbers);
        let (residual, fidelity) = synthesiser.compare(anatomy, characteristics, seen, scratch);
        let carried = match whole {
            Whole::Seen => Carried::Residual(residual, Glass::of(seen)),
            // A copy: what came may be a piece of a whole request's body.
            Whole::Pixels(pixels) => Carried::Pixels(Bytes::copy_from_slice(pixels)),
            Whole::Elsewhere => Carried::Pixels(Bytes::new()),
        };
        let side = synthesiser.geometry().image_size();
        let windows = Windows::of_canvas(side, (side, side));
        Self::new(size, windows, fidelity, (numbers, latents), carried)
    }

    /// Puts together what is kept of a tile, `pixels` `[height, width, 3] u8`, that the model saw
    /// in several windows.
    pub fn of_windows(
        size: (u32, u32),
        windows: Windows,
        pixels: &[u8],
        of_each: &[Arc<TileEncoding>],
    ) -> Self {
        let anatomy = of_each.first().map_or(0, |window| window.anatomy);
        let latents = of_each.iter().flat_map(|window| window.latents()).copied().collect();
        // The PSNR of all of them: that of the mean of their squared errors.
        let error = |window: &Arc<TileEncoding>| 10f64.powf(-f64::from(window.fidelity) / 10.0);
        let mean = of_each.iter().map(error).sum::<f64>() / of_each.len() as f64;
        // Of windows at the largest that it can be, rounding must not lead beyond.
        let fidelity = (-10.0 * mean.log10()).clamp(0.0, 99.0) as f32;
        let carried = Carried::Pixels(Bytes::copy_from_slice(pixels));
        Self::new(size, windows, fidelity, (anatomy, latents), carried)
    }

    /// From which patches a stain can be taken, `[windows · N]`; found by `find` the first time.
    pub fn stained(&self, find: impl FnOnce() -> Vec<bool>) -> &[bool] {
        self.stained.get_or_init(find)
    }

    /// The mean characteristics of all patches with a stain, `[S]`; made by `find` the first time.
    pub fn stain(&self, find: impl FnOnce() -> Option<Style>) -> Option<&[f32]> {
        self.stain.get_or_init(find).as_ref().map(|style| &style.0[..])
    }

    /// How many of the tile's own values lie at 0 or 255; counted the first time.
    pub fn at_limits(&self, synthesiser: &Synthesiser, scratch: &mut Scratch) -> usize {
        *self.at_limits.get_or_init(|| clip::at_limits(&self.pixels(synthesiser, scratch)))
    }

    /// Of each window anatomy `[N, h]`, then characteristics `[N, S]`.
    pub fn latents(&self) -> &[f16] {
        &self.latents
    }

    /// Numbers of anatomy in a window.
    pub fn anatomy_len(&self) -> usize {
        self.anatomy
    }

    /// What the model saw in each window, one at least.
    pub fn seen(&self) -> impl ExactSizeIterator<Item = Window<'_>> {
        let each = self.latents.len() / self.windows.count();
        self.latents.chunks_exact(each).map(|latents| {
            let (anatomy, characteristics) = latents.split_at(self.anatomy);
            Window { anatomy, characteristics }
        })
    }

    /// What the model saw in the first window, which is all of a tile that needs no more.
    pub fn first(&self) -> Window<'_> {
        self.seen().next().expect("a tile has a window")
    }

    /// `[S]`: the characteristics of a patch, counted through all windows.
    pub fn characteristics_of(&self, patch: usize, geometry: &Geometry) -> &[f16] {
        let (of_window, patch) = (patch / geometry.patches(), patch % geometry.patches());
        let window = self.seen().nth(of_window).expect("the tile has the patch");
        latent::token(geometry, window.characteristics, patch)
    }

    /// The tile's own pixels, `[height, width, 3] u8`.
    pub fn pixels(&self, synthesiser: &Synthesiser, scratch: &mut Scratch) -> Bytes {
        match &self.carried {
            Carried::Pixels(pixels) => pixels.clone(),
            Carried::Residual(residual, _) => {
                let mut pixels = vec![0; synthesiser.geometry().tile_bytes()];
                let Window { anatomy, characteristics } = self.first();
                let carry = Carry { anatomy, residual };
                synthesiser.restore(carry, characteristics, scratch, &mut pixels);
                pixels.into()
            }
        }
    }

    /// The pixels that the model saw, at the size of the canvas, u8.
    pub fn canvas(&self, synthesiser: &Synthesiser, scratch: &mut Scratch) -> Bytes {
        at_canvas(self.size, &self.pixels(synthesiser, scratch), &self.windows)
    }

    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Whether it is of one window of a larger tile.
    pub fn is_window(&self) -> bool {
        matches!(&self.carried, Carried::Pixels(pixels) if pixels.is_empty())
    }

    /// Bytes of what is kept.
    pub fn bytes(&self) -> usize {
        size_of_val(self.latents()) + self.carried.bytes()
    }

    /// Whether its lengths are those of an encoder of this geometry.
    pub fn fits(&self, geometry: &Geometry) -> bool {
        let (width, height, side) =
            (self.size.0 as usize, self.size.1 as usize, geometry.image_size());
        let is_as_seen = (width, height) == (side, side) && self.windows.is_whole();
        let carried = match &self.carried {
            Carried::Residual(residual, _) => is_as_seen && residual.len() == geometry.tile_bytes(),
            Carried::Pixels(pixels) => {
                !is_as_seen && (pixels.len() == width * height * CHANNELS || self.is_window())
            }
        };
        let numbers = (geometry.tile_anatomy(), self.windows.count() * geometry.tile_latents());
        carried && self.windows.side() == side && (self.anatomy, self.latents.len()) == numbers
    }
}

impl Carried {
    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Residual(residual, glass) => residual.bytes() + glass.bytes(),
            Self::Pixels(pixels) => pixels.len(),
        }
    }
}

/// The pixels of a tile at the size of its canvas: the same memory, where they have it.
pub fn at_canvas((width, height): (u32, u32), pixels: &Bytes, windows: &Windows) -> Bytes {
    let size = (width as usize, height as usize);
    match windows.canvas() {
        canvas if canvas == size => pixels.clone(),
        canvas => shrink(pixels, size, canvas).into(),
    }
}

/// Without its numbers, of which there are a hundred thousand.
impl fmt::Debug for TileEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, fidelity, .. } = self;
        f.debug_struct("TileEncoding")
            .field("size", size)
            .field("fidelity", fidelity)
            .finish_non_exhaustive()
    }
}
