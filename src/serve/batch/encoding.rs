//! What is kept of a tile: its encoding, and what its variants are carried by.

use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use half::f16;
use restain_method::Geometry;
use restain_method::geometry::CHANNELS;
use restain_method::glass::Glass;
use restain_method::shrink::shrink;
use restain_method::synth::{Carry, Residual, Scratch, Synthesiser};

/// What the encoder made of one tile, in the precision in which it is kept: whether a tile was
/// encoded just now or in another epoch, its variants are the same bytes.
#[derive(Clone, PartialEq)]
pub struct TileEncoding {
    /// Width and height of the tile as it came.
    pub size: (u32, u32),
    /// PSNR of the tile's own reconstruction at the model's size, dB, at most 99.
    pub fidelity: f32,
    /// `[2, N, h]`: anatomy, then characteristics.
    latents: Vec<f16>,
    carried: Carried,
    /// From which patches a stain can be taken, once that was asked.
    stained: OnceLock<Vec<bool>>,
}

/// What a tile has that its encoding has not. Both forms take about one byte a value, so that a key
/// stands for a tile of any size.
#[derive(Clone, Debug, PartialEq)]
pub enum Carried {
    /// Of a tile of the model's size: what its reconstruction misses, and the pixels of its glass.
    Residual(Residual, Glass),
    /// The pixels of a tile of another size, `[height, width, 3] u8`.
    Pixels(Bytes),
}

impl TileEncoding {
    /// `latents` `[2, N, h]`: anatomy, then characteristics.
    pub fn new(size: (u32, u32), fidelity: f32, latents: Vec<f16>, carried: Carried) -> Self {
        Self { size, fidelity, latents, carried, stained: OnceLock::new() }
    }

    /// Puts together what is kept of a tile. `seen` `[H, W, 3] u8` is the tile at the model's size;
    /// `pixels` the tile itself, when it has another.
    pub(super) fn of(
        synthesiser: &Synthesiser,
        scratch: &mut Scratch,
        (size, latents): ((u32, u32), Vec<f16>),
        seen: &[u8],
        pixels: Option<&Bytes>,
    ) -> Self {
        let (anatomy, characteristics) = latents.split_at(latents.len() / 2);
        let (residual, fidelity) = synthesiser.compare(anatomy, characteristics, seen, scratch);
        let carried = match pixels {
            None => Carried::Residual(residual, Glass::of(seen)),
            // A copy: what came may be a piece of a whole request's body.
            Some(pixels) => Carried::Pixels(Bytes::copy_from_slice(pixels)),
        };
        Self::new(size, fidelity, latents, carried)
    }

    /// From which patches a stain can be taken, `[N]`; found by `find` the first time.
    pub fn stained(&self, find: impl FnOnce() -> Vec<bool>) -> &[bool] {
        self.stained.get_or_init(find)
    }

    /// `[2, N, h]`
    pub fn latents(&self) -> &[f16] {
        &self.latents
    }

    /// `[N, h]`
    pub fn anatomy(&self) -> &[f16] {
        &self.latents[..self.latents.len() / 2]
    }

    /// `[N, h]`
    pub fn characteristics(&self) -> &[f16] {
        &self.latents[self.latents.len() / 2..]
    }

    /// The pixels that the encoder saw, `[H, W, 3] u8`.
    pub fn seen(&self, synthesiser: &Synthesiser, scratch: &mut Scratch) -> Vec<u8> {
        match &self.carried {
            Carried::Residual(residual, _) => {
                let mut pixels = vec![0; synthesiser.geometry().tile_bytes()];
                let carry = Carry { anatomy: self.anatomy(), residual };
                synthesiser.restore(carry, self.characteristics(), scratch, &mut pixels);
                pixels
            }
            Carried::Pixels(pixels) => {
                let size = (self.size.0 as usize, self.size.1 as usize);
                shrink(pixels, size, synthesiser.geometry().image_size())
            }
        }
    }

    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Bytes of what is kept.
    pub fn bytes(&self) -> usize {
        size_of_val(self.latents()) + self.carried.bytes()
    }

    /// Whether its lengths are those of an encoder of this geometry.
    pub fn fits(&self, geometry: &Geometry) -> bool {
        let (width, height, side) =
            (self.size.0 as usize, self.size.1 as usize, geometry.image_size());
        let is_the_models = (width, height) == (side, side);
        let carried = match &self.carried {
            Carried::Residual(residual, _) => {
                is_the_models && residual.len() == geometry.tile_bytes()
            }
            Carried::Pixels(pixels) => !is_the_models && pixels.len() == width * height * CHANNELS,
        };
        carried && self.latents.len() == 2 * geometry.tile_latent()
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
