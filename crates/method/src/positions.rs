//! The fixed 2-D sin-cos position embeddings of Masked Autoencoders (arXiv 2111.06377), which the
//! encoder adds to its tokens. They are computed, never trained.

use super::Geometry;

const BASE: f64 = 10_000.0;

/// Returns the position embeddings `[N+1, E] f32` of a model.
pub fn positions(geometry: &Geometry) -> Vec<f32> {
    position_table(geometry.grid(), geometry.embed_dim())
}

/// Returns position embeddings `[grid² + 1, embed] f32`. Row 0 is that of CLS and zero; patches
/// follow row by row.
///
/// The first half of a patch's numbers encodes its column, the second its row (width first, as MAE
/// does). The first half of each half is sin, the second cos, of `coordinate / 10000^(i /
/// (embed/4))`.
pub fn position_table(grid: usize, embed: usize) -> Vec<f32> {
    let quarter = embed / 4;
    let mut table = vec![0.0; (grid * grid + 1) * embed];
    for (patch, row) in table[embed..].chunks_exact_mut(embed).enumerate() {
        let (by_column, by_row) = row.split_at_mut(embed / 2);
        for (coordinate, half) in [(patch % grid, by_column), (patch / grid, by_row)] {
            for i in 0..quarter {
                let angle = coordinate as f64 / BASE.powf(i as f64 / quarter as f64);
                half[i] = angle.sin() as f32;
                half[quarter + i] = angle.cos() as f32;
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::GeometrySpec;

    #[test]
    fn the_width_comes_first_and_cls_has_no_position() {
        let geometry = Geometry::new(GeometrySpec {
            image_size: 8,
            in_channels: 3,
            patch_size: 4,
            embed_dim: 24,
            depth: 1,
            num_heads: 2,
            mlp_ratio: 4.0,
            style_bias: false,
        })
        .unwrap();
        let table = positions(&geometry);
        let row = |token: usize| &table[token * 24..][..24];
        assert!(row(0).iter().all(|&v| v == 0.0));
        // Patch 0 stands at (0, 0): sin 0 and cos 0 throughout.
        assert_eq!(row(1), [[0.0; 6], [1.0; 6], [0.0; 6], [1.0; 6]].concat());
        // Patch 1 stands one column to the right: only its first half differs from patch 0's.
        assert_eq!(row(2)[0], 1.0_f64.sin() as f32);
        assert_eq!(row(2)[7], (1.0 / 10_000.0_f64.powf(1.0 / 6.0)).cos() as f32);
        assert_eq!(row(2)[12..], row(1)[12..]);
        // Patch 2 stands one row below: only its second half does.
        assert_eq!(row(3)[..12], row(1)[..12]);
        assert_eq!(row(3)[12], 1.0_f64.sin() as f32);
    }
}
