//! The synthesiser on tensors, differentiable. `restain_method::synth` computes the same on slices.

use tch::Tensor;

use restain_method::{Geometry, PixelOrder};

/// Splits tokens [B, N+1, h + S] into anatomy [B, N+1, h] and characteristics [B, N+1, S], CLS
/// included.
pub fn halves(z: &Tensor, geometry: &Geometry) -> (Tensor, Tensor) {
    let half = geometry.half() as i64;
    (z.narrow(-1, 0, half), z.narrow(-1, half, geometry.style_len() as i64))
}

/// Multiplies anatomy and characteristics into standardised pixels.
pub struct Synthesiser {
    /// Sizes of the model.
    pub geometry: Geometry,
    /// How the pixels of a patch lie in a product.
    pub pixel_order: PixelOrder,
}

impl Synthesiser {
    /// Uses token i's characteristics for patch i: anatomy [B, N+1, h] and characteristics [B, N+1,
    /// S], of which CLS is ignored → [B, C, H, W].
    pub fn aligned(&self, anatomy: &Tensor, characteristics: &Tensor) -> Tensor {
        let (batch, patches, patch, rank) = self.sizes(anatomy);
        let left = anatomy.narrow(1, 1, patches).reshape([batch * patches * 3, patch, rank]);
        let (right, bias) = self.parts(&characteristics.narrow(1, 1, patches));
        let right = right.reshape([batch * patches * 3, rank, patch]);
        let product = left.bmm(&right).view([batch, patches, 3, patch, patch]);
        self.place(&match bias {
            Some(bias) => product + bias.reshape([batch, patches, 3, 1, patch]),
            None => product,
        })
    }

    /// Uses one style for all patches of a tile: anatomy [B, N+1, h], styles [B, S] → [B, C, H, W].
    pub fn broadcast(&self, anatomy: &Tensor, styles: &Tensor) -> Tensor {
        let (batch, patches, patch, rank) = self.sizes(anatomy);
        // One product per channel and tile, [N·P, L] · [L, P], instead of N small ones.
        let left = anatomy
            .narrow(1, 1, patches)
            .view([batch, patches, 3, patch, rank])
            .permute([0, 2, 1, 3, 4]);
        let left = left.reshape([batch * 3, patches * patch, rank]);
        let (right, bias) = self.parts(styles);
        let product = left
            .bmm(&right.reshape([batch * 3, rank, patch]))
            .view([batch, 3, patches, patch, patch])
            .transpose(1, 2);
        self.place(&match bias {
            Some(bias) => product + bias.reshape([batch, 1, 3, 1, patch]),
            None => product,
        })
    }

    /// Splits styles [.., S] into what is multiplied, [.., h], and the bias, [.., C·P], if there is
    /// one.
    fn parts(&self, styles: &Tensor) -> (Tensor, Option<Tensor>) {
        let (half, all) = (self.geometry.half() as i64, self.geometry.style_len() as i64);
        let bias = (all > half).then(|| styles.narrow(-1, half, all - half));
        (styles.narrow(-1, 0, half), bias)
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

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use restain_method::geometry::GeometrySpec;
    use restain_method::synth::reference::{values_aligned, values_broadcast};

    #[test]
    fn with_a_style_bias_too_it_is_the_product_that_serves() {
        let spec = GeometrySpec {
            image_size: 8,
            in_channels: 3,
            patch_size: 4,
            embed_dim: 48,
            depth: 1,
            num_heads: 1,
            mlp_ratio: 4.0,
            style_bias: true,
        };
        let geometry = Geometry::new(spec).unwrap();
        let tokens = geometry.patches() as i64 + 1;
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let anatomy = random(&[2, tokens, geometry.half() as i64]);
        let characteristics = random(&[2, tokens, geometry.style_len() as i64]);
        let styles = random(&[2, geometry.style_len() as i64]);
        // The second tile, without CLS.
        let numbers = |of: &Tensor| Vec::<f32>::try_from(of.reshape([-1])).unwrap();
        let patches = |of: &Tensor| numbers(&of.get(1).narrow(0, 1, tokens - 1));
        for pixel_order in [PixelOrder::Planar, PixelOrder::Interleaved] {
            let synth = Synthesiser { geometry, pixel_order };
            let (of, by) = (patches(&anatomy), patches(&characteristics));
            let pairs = [
                (
                    synth.broadcast(&anatomy, &styles),
                    values_broadcast(&geometry, pixel_order, &of, &numbers(&styles.get(1))),
                ),
                (
                    synth.aligned(&anatomy, &characteristics),
                    values_aligned(&geometry, pixel_order, &of, &by),
                ),
            ];
            for (found, expected) in pairs {
                let found = numbers(&found.get(1));
                assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4));
            }
        }
    }
}
