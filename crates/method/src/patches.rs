//! Cutting a tile into patches and assembling it again, in both pixel orders.
//!
//! A patch is C·P·P values with a flat index f. The pixel order maps f to a pixel and a channel,
//! and only this module and the synthesiser know it. The paper's text describes the planar order.
//! Its published code reshapes where it should transpose; a model that was trained with it decodes
//! in the interleaved order only.

use super::geometry::{CHANNELS, Geometry};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How the product [C, P, P] of a patch becomes pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelOrder {
    /// Channel planes: transposed to [P, P, C] before it is put in place. What the paper's text
    /// says.
    #[default]
    Planar,
    /// Reshaped (not transposed) to [P, P, C]: what the published code does, and its checkpoints
    /// need.
    Interleaved,
}

/// The error of a name that is neither `planar` nor `interleaved`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("pixel order {0:?} is not one of planar, interleaved")]
pub struct UnknownPixelOrder(String);

impl FromStr for PixelOrder {
    type Err = UnknownPixelOrder;
    fn from_str(name: &str) -> Result<Self, UnknownPixelOrder> {
        match name {
            "planar" => Ok(Self::Planar),
            "interleaved" => Ok(Self::Interleaved),
            other => Err(UnknownPixelOrder(other.to_owned())),
        }
    }
}

impl fmt::Display for PixelOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Planar => "planar",
            Self::Interleaved => "interleaved",
        })
    }
}

impl PixelOrder {
    /// Returns (row, column, channel) within the patch of flat index `index` of the product [C, P,
    /// P].
    pub fn place(self, patch_size: usize, index: usize) -> (usize, usize, usize) {
        match self {
            Self::Planar => (
                index / patch_size % patch_size,
                index % patch_size,
                index / (patch_size * patch_size),
            ),
            Self::Interleaved => {
                (index / (patch_size * CHANNELS), index / CHANNELS % patch_size, index % CHANNELS)
            }
        }
    }
}

/// Cuts `[H, W, 3]` into `[N, C·P·P]`, patches row by row.
///
/// # Panics
/// When a length is not the geometry's.
pub fn patchify<T: Copy>(order: PixelOrder, geometry: &Geometry, tile: &[T], patches: &mut [T]) {
    assert_eq!(
        (tile.len(), patches.len()),
        (geometry.tile_bytes(), geometry.tile_bytes()),
        "the geometry's sizes"
    );
    for_each_value(order, geometry, |in_patches, in_tile| patches[in_patches] = tile[in_tile]);
}

/// The inverse of [`patchify`]: `[N, C·P·P]` back into `[H, W, 3]`.
///
/// # Panics
/// When a length is not the geometry's.
pub fn unpatchify<T: Copy>(order: PixelOrder, geometry: &Geometry, patches: &[T], tile: &mut [T]) {
    assert_eq!(
        (tile.len(), patches.len()),
        (geometry.tile_bytes(), geometry.tile_bytes()),
        "the geometry's sizes"
    );
    for_each_value(order, geometry, |in_patches, in_tile| tile[in_tile] = patches[in_patches]);
}

fn for_each_value(order: PixelOrder, geometry: &Geometry, mut visit: impl FnMut(usize, usize)) {
    let (size, grid, side) = (geometry.patch_size(), geometry.grid(), geometry.image_size());
    // One patch's offsets, relative to its top left corner, serve all patches.
    let offsets: Vec<usize> = (0..geometry.patch_values())
        .map(|index| {
            let (row, column, channel) = order.place(size, index);
            (row * side + column) * CHANNELS + channel
        })
        .collect();
    for patch in 0..geometry.patches() {
        let corner = (patch / grid * size * side + patch % grid * size) * CHANNELS;
        for (index, offset) in offsets.iter().enumerate() {
            visit(patch * offsets.len() + index, corner + offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::GeometrySpec;

    fn small() -> Geometry {
        Geometry::new(GeometrySpec {
            image_size: 4,
            in_channels: 3,
            patch_size: 2,
            embed_dim: 12,
            depth: 1,
            num_heads: 1,
            mlp_ratio: 4.0,
            style_bias: false,
        })
        .unwrap()
    }

    #[test]
    fn planar_patches_hold_channel_planes_and_interleaved_ones_whole_pixels() {
        let tile: Vec<u16> = (0..48).collect();
        let mut patches = vec![0; 48];
        patchify(PixelOrder::Planar, &small(), &tile, &mut patches);
        assert_eq!(
            patches[12..24],
            [6, 9, 18, 21, 7, 10, 19, 22, 8, 11, 20, 23],
            "the top right patch"
        );
        patchify(PixelOrder::Interleaved, &small(), &tile, &mut patches);
        assert_eq!(patches[12..24], [6, 7, 8, 9, 10, 11, 18, 19, 20, 21, 22, 23]);
    }

    #[test]
    fn unpatchify_undoes_patchify() {
        let tile: Vec<u16> = (0..48).collect();
        for order in [PixelOrder::Planar, PixelOrder::Interleaved] {
            let (mut patches, mut back) = (vec![0; 48], vec![0; 48]);
            patchify(order, &small(), &tile, &mut patches);
            unpatchify(order, &small(), &patches, &mut back);
            assert_eq!(tile, back, "{order}");
        }
    }

    #[test]
    fn names_are_the_manifests() {
        for order in [PixelOrder::Planar, PixelOrder::Interleaved] {
            assert_eq!(order.to_string().parse(), Ok(order));
            assert_eq!(serde_json::to_string(&order).unwrap(), format!("\"{order}\""));
        }
        assert!("Planar".parse::<PixelOrder>().is_err());
    }
}
