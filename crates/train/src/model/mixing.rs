//! The synthesiser on tensors, differentiable. `restain_method::synth` computes the same on slices.

use tch::Tensor;

use restain_method::{Geometry, PixelOrder};

/// Splits tokens Z [B, N+1, E] into anatomy and characteristics, [B, N+1, h] each, CLS included.
pub fn halves(z: &Tensor, geometry: &Geometry) -> (Tensor, Tensor) {
    let half = geometry.half() as i64;
    (z.narrow(-1, 0, half), z.narrow(-1, half, half))
}

/// Multiplies anatomy and characteristics into standardised pixels.
pub struct Synthesiser {
    /// Sizes of the model.
    pub geometry: Geometry,
    /// How the pixels of a patch lie in a product.
    pub pixel_order: PixelOrder,
}

impl Synthesiser {
    /// Uses token i's characteristics for patch i: both [B, N+1, h], of which CLS is ignored → [B,
    /// C, H, W].
    pub fn aligned(&self, anatomy: &Tensor, characteristics: &Tensor) -> Tensor {
        let (batch, patches, patch, rank) = self.sizes(anatomy);
        let left = anatomy.narrow(1, 1, patches).reshape([batch * patches * 3, patch, rank]);
        let right =
            characteristics.narrow(1, 1, patches).reshape([batch * patches * 3, rank, patch]);
        self.place(&left.bmm(&right).view([batch, patches, 3, patch, patch]))
    }

    /// Uses one style for all patches of a tile: anatomy [B, N+1, h], styles [B, h] → [B, C, H, W].
    pub fn broadcast(&self, anatomy: &Tensor, styles: &Tensor) -> Tensor {
        let (batch, patches, patch, rank) = self.sizes(anatomy);
        // One product per channel and tile, [N·P, L] · [L, P], instead of N small ones.
        let left = anatomy
            .narrow(1, 1, patches)
            .view([batch, patches, 3, patch, rank])
            .permute([0, 2, 1, 3, 4]);
        let left = left.reshape([batch * 3, patches * patch, rank]);
        let product = left
            .bmm(&styles.reshape([batch * 3, rank, patch]))
            .view([batch, 3, patches, patch, patch]);
        self.place(&product.transpose(1, 2))
    }

    fn sizes(&self, anatomy: &Tensor) -> (i64, i64, i64, i64) {
        let g = &self.geometry;
        (anatomy.size()[0], g.patches() as i64, g.patch_size() as i64, g.rank() as i64)
    }

    /// Places patches into tiles: products [B, N, C, P, P] → [B, C, H, W].
    fn place(&self, product: &Tensor) -> Tensor {
        let (grid, patch) = (self.geometry.grid() as i64, self.geometry.patch_size() as i64);
        let batch = product.size()[0];
        let tiles = match self.pixel_order {
            // [B, gy, gx, C, y, x] → [B, C, gy, y, gx, x]
            PixelOrder::Planar => {
                product.reshape([batch, grid, grid, 3, patch, patch]).permute([0, 3, 1, 4, 2, 5])
            }
            // The same memory read as [B, gy, gx, y, x, C] → [B, C, gy, y, gx, x]
            PixelOrder::Interleaved => {
                product.reshape([batch, grid, grid, patch, patch, 3]).permute([0, 5, 1, 3, 2, 4])
            }
        };
        tiles.reshape([batch, 3, grid * patch, grid * patch])
    }
}
