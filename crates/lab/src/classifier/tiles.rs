//! Labelled tiles in memory, and their way into a network.

use tch::{Device, Kind, Tensor};

/// Pixels in 0..1 are standardised by these in every channel: nothing about a hospital is known beforehand.
const MEAN: f64 = 0.5;
const STD: f64 = 0.25;

/// Tiles of one size, each with its class.
#[derive(Clone, Debug, Default)]
pub struct Tiles {
    /// [side, side, 3] u8 each.
    pub pixels: Vec<Vec<u8>>,
    pub labels: Vec<usize>,
    pub side: usize,
}

impl Tiles {
    pub fn len(&self) -> usize {
        self.pixels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }
}

/// Tiles [side, side, 3] u8 → [B, 3, side, side] f32, standardised.
pub fn input(tiles: &[impl AsRef<[u8]>], side: usize, device: Device) -> Tensor {
    let bytes: Vec<u8> = tiles.iter().flat_map(|tile| tile.as_ref()).copied().collect();
    from_bytes(&bytes, side, device)
}

/// As [`input`], of tiles laid end to end.
pub(super) fn from_bytes(bytes: &[u8], side: usize, device: Device) -> Tensor {
    let side = side as i64;
    let pixels =
        Tensor::from_slice(bytes).view([-1, side, side, 3]).permute([0, 3, 1, 2]).to_device(device);
    (pixels.to_kind(Kind::Float) / 255.0 - MEAN) / STD
}

/// One of the eight ways to lay down a square: bit 0 mirrors left and right, bit 1 up and down, bit 2 swaps the axes.
/// `tile` and `out` [side, side, 3].
pub(super) fn lay(tile: &[u8], side: usize, way: u8, out: &mut [u8]) {
    let (mirror_x, mirror_y, swap) = (way & 1 != 0, way & 2 != 0, way & 4 != 0);
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
