//! Labelled tiles in memory, and their conversion to tensors.

use tch::{Device, Kind, Tensor};

/// Mean and standard deviation by which pixels in 0..1 are standardised, the same for all channels:
/// a classifier must not know a hospital's colours beforehand.
const MEAN: f64 = 0.5;
const STD: f64 = 0.25;

/// Tiles of one size with their classes.
#[derive(Clone, Debug, Default)]
pub struct Tiles {
    /// u8 [side, side, 3] each.
    pub pixels: Vec<Vec<u8>>,
    /// The class of each tile.
    pub labels: Vec<usize>,
    /// Pixels.
    pub side: usize,
}

impl Tiles {
    /// Returns the number of tiles.
    pub fn len(&self) -> usize {
        self.pixels.len()
    }

    /// Returns whether there are no tiles.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }
}

/// Standardises tiles: u8 [side, side, 3] each → f32 [B, 3, side, side] on `device`.
pub fn input(tiles: &[impl AsRef<[u8]>], side: usize, device: Device) -> Tensor {
    let bytes: Vec<u8> = tiles.iter().flat_map(|tile| tile.as_ref()).copied().collect();
    from_bytes(&bytes, side, device)
}

/// Standardises tiles that lie one after another: u8 [B, side, side, 3] → f32 [B, 3, side, side].
pub(super) fn from_bytes(bytes: &[u8], side: usize, device: Device) -> Tensor {
    let side = side as i64;
    let pixels =
        Tensor::from_slice(bytes).view([-1, side, side, 3]).permute([0, 3, 1, 2]).to_device(device);
    standardised(&pixels.to_kind(Kind::Float))
}

/// Standardises levels of 0 to 255, f32 of any shape.
pub fn standardised(levels: &Tensor) -> Tensor {
    (levels / 255.0 - MEAN) / STD
}

/// Applies one of the eight symmetries of a square: bit 0 mirrors left and right, bit 1 up and
/// down, bit 2 swaps the axes. `tile` and `out` are u8 [side, side, 3].
pub(super) fn orient(tile: &[u8], side: usize, symmetry: u8, out: &mut [u8]) {
    let (mirror_x, mirror_y, swap) = (symmetry & 1 != 0, symmetry & 2 != 0, symmetry & 4 != 0);
    for (i, pixel) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (mut x, mut y) = (i % side, i / side);
        if swap {
            (x, y) = (y, x);
        }
        let x = if mirror_x { side - 1 - x } else { x };
        let y = if mirror_y { side - 1 - y } else { y };
        pixel.copy_from_slice(&tile[(y * side + x) * 3..][..3]);
    }
}
