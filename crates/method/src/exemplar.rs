//! Selection of exemplars: the tiles, and the tokens in them, that represent a stain.
//!
//! Of a tile's tissue tokens the most representative one becomes a style: the one whose
//! characteristics, broadcast over the tile's own anatomy, reconstruct the tile best. Background is
//! left out, and so are tiles far from the usual colour of their domain. The trainer fills the
//! style bank of a bundle this way, and the server adds domains to it the same way. Reading tiles
//! is for them.

use std::sync::LazyLock;

use super::Style;
use super::color::ChannelStats;
use super::geometry::{CHANNELS, Geometry};
use super::glass;
use super::latent;
use super::synth::{Element, Synthesiser};
use super::windows::Windows;

/// A patch is tissue when its mean optical density, −ln(pixel/255), is at least this: the usual
/// threshold for white.
const TISSUE_DENSITY: f64 = 0.15;
/// A patch is black when its mean optical density is above this (a mean value of 20): ink, a fold,
/// what lies beside a slide.
const BLACK_DENSITY: f64 = 2.5;
/// A patch is flat when the values of each of its channels differ by at most this, which
/// compression makes of one value.
const FLAT_SPREAD: u8 = 3;
/// Side of the squares, pixels, in which a tile of any size is searched for a stain.
pub const STAIN_SQUARE: usize = 16;
/// The share of tissue patches that a tile must have before a style is taken from it.
pub const ENOUGH_TISSUE: f64 = 0.5;

/// Returns for each patch, row by row, whether it holds tissue.
///
/// # Shapes
/// `tile` `[H, W, 3] u8`; `[N]`.
///
/// # Panics
/// When the tile does not have the geometry's size.
pub fn tissue(geometry: &Geometry, tile: &[u8]) -> Vec<bool> {
    patches(geometry, tile).map(|patch| patch.density() >= TISSUE_DENSITY).collect()
}

/// Returns for each patch, row by row, whether a stain can be taken from it: it holds tissue, and
/// is neither black nor flat nor pen.
///
/// # Shapes
/// `tile` `[H, W, 3] u8`; `[N]`.
///
/// # Panics
/// When the tile does not have the geometry's size.
pub fn stained(geometry: &Geometry, tile: &[u8]) -> Vec<bool> {
    patches(geometry, tile).map(|patch| patch.is_stained()).collect()
}

/// Returns the same for a tile that the model sees in windows, window by window.
///
/// # Shapes
/// `canvas` `[height, width, 3] u8` of the windows; `[windows · N]`.
///
/// # Panics
/// When a length is another.
pub fn stained_in(geometry: &Geometry, windows: &Windows, canvas: &[u8]) -> Vec<bool> {
    (0..windows.count()).flat_map(|index| stained(geometry, &windows.cut(index, canvas))).collect()
}

/// Returns whether a stain can be taken from any patch of a tile of any size.
///
/// # Shapes
/// `tile` `[height, width, 3] u8`.
pub fn has_stain(tile: &[u8], width: usize, patch: usize) -> bool {
    let height = tile.len() / (width * CHANNELS);
    let side = patch.min(width).min(height);
    squares(tile, width, side).any(|patch| patch.is_stained())
}

fn patches<'a>(geometry: &Geometry, tile: &'a [u8]) -> impl Iterator<Item = Patch<'a>> {
    assert_eq!(tile.len(), geometry.tile_bytes(), "tile is [H, W, 3]");
    squares(tile, geometry.image_size(), geometry.patch_size())
}

/// The whole squares of a tile, row by row.
fn squares(tile: &[u8], width: usize, side: usize) -> impl Iterator<Item = Patch<'_>> {
    let (columns, rows) = (width / side, tile.len() / (width * CHANNELS) / side);
    (0..rows * columns).map(move |place| {
        let (row, column) = (place / columns, place % columns);
        let start = (row * side * width + column * side) * CHANNELS;
        Patch { pixels: &tile[start..], stride: width * CHANNELS, side }
    })
}

/// A square of a tile, from its first pixel on.
struct Patch<'a> {
    pixels: &'a [u8],
    stride: usize,
    side: usize,
}

impl Patch<'_> {
    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.side).map(|y| &self.pixels[y * self.stride..][..self.side * CHANNELS])
    }

    /// Mean optical density.
    fn density(&self) -> f64 {
        static DENSITY: LazyLock<[f64; 256]> =
            LazyLock::new(|| std::array::from_fn(|value| -((value as f64 + 1.0) / 256.0).ln()));
        let density = &*DENSITY;
        let sum: f64 = self.rows().flatten().map(|&value| density[usize::from(value)]).sum();
        sum / (self.side * self.side * CHANNELS) as f64
    }

    fn is_stained(&self) -> bool {
        (TISSUE_DENSITY..=BLACK_DENSITY).contains(&self.density())
            && !self.is_flat()
            && !glass::is_pen(self.mean())
    }

    /// Mean of each channel.
    fn mean(&self) -> [f64; CHANNELS] {
        let mut sum = [0u64; CHANNELS];
        for pixel in self.rows().flat_map(|row| row.as_chunks::<CHANNELS>().0) {
            for channel in 0..CHANNELS {
                sum[channel] += u64::from(pixel[channel]);
            }
        }
        sum.map(|sum| sum as f64 / (self.side * self.side) as f64)
    }

    fn is_flat(&self) -> bool {
        let (mut least, mut most) = ([u8::MAX; CHANNELS], [u8::MIN; CHANNELS]);
        for pixel in self.rows().flat_map(|row| row.as_chunks::<CHANNELS>().0) {
            for channel in 0..CHANNELS {
                least[channel] = least[channel].min(pixel[channel]);
                most[channel] = most[channel].max(pixel[channel]);
            }
        }
        least.iter().zip(most).all(|(least, most)| most.saturating_sub(*least) <= FLAT_SPREAD)
    }
}

/// Returns whether at least `share` of a tile's patches are tissue.
pub fn is_tissue(geometry: &Geometry, tile: &[u8], share: f64) -> bool {
    let patches = tissue(geometry, tile);
    patches.iter().filter(|&&tissue| tissue).count() as f64 >= share * patches.len() as f64
}

/// Returns the indices, in ascending order, of the `count` tiles whose mean colour is nearest to
/// the median: tiles full of blood or ink are no examples of a stain.
pub fn typical(tiles: &[impl AsRef<[u8]>], count: usize) -> Vec<usize> {
    let means: Vec<[f32; 3]> =
        tiles.iter().map(|tile| ChannelStats::from_tile(tile.as_ref()).mean).collect();
    if means.is_empty() {
        return Vec::new();
    }
    let median: [f32; 3] = std::array::from_fn(|channel| {
        let mut values: Vec<f32> = means.iter().map(|mean| mean[channel]).collect();
        values.sort_by(f32::total_cmp);
        values[values.len() / 2]
    });
    let distance = |mean: &[f32; 3]| {
        mean.iter().zip(median).map(|(value, middle)| (value - middle).powi(2)).sum::<f32>()
    };
    let distances: Vec<f32> = means.iter().map(distance).collect();
    let mut nearest: Vec<usize> = (0..tiles.len()).collect();
    nearest.sort_by(|&a, &b| distances[a].total_cmp(&distances[b]));
    nearest.truncate(count);
    nearest.sort_unstable();
    nearest
}

/// Averages characteristics over patches that hold a stain: the style of a slide, of several tiles.
/// `None` if there are no such patches.
///
/// # Shapes
/// Of each tile `characteristics` `[N, S]` and which patches count, `[N]`.
pub fn mean_style<'a, T: Element + 'a>(
    geometry: &Geometry,
    tiles: impl IntoIterator<Item = (&'a [T], &'a [bool])>,
) -> Option<Style> {
    let each = geometry.style_len();
    let (mut sums, mut count, mut wide) = (vec![0.0; each], 0.0, vec![0.0; each]);
    for (characteristics, counts) in tiles {
        let patches = characteristics.chunks_exact(each).zip(counts);
        for (patch, _) in patches.filter(|(_, counts)| **counts) {
            let patch = T::widen(patch, &mut wide);
            sums.iter_mut().zip(patch).for_each(|(sum, value)| *sum += f64::from(*value));
            count += 1.0;
        }
    }
    let mean = |sum: f64| (sum / count) as f32;
    (count > 0.0).then(|| Style(sums.into_iter().map(mean).collect()))
}

/// Returns the tissue patch whose style reconstructs its own tile best; of all patches when none is
/// tissue.
///
/// # Shapes
/// `tile` `[H, W, 3] u8`, `anatomy` `[N, h]`, `characteristics` `[N, S]`.
///
/// # Panics
/// When a length does not fit the synthesiser's geometry.
pub fn representative<T: Element>(
    synth: &Synthesiser,
    tile: &[u8],
    anatomy: &[T],
    characteristics: &[T],
) -> usize {
    most_representative(synth, tile, anatomy, characteristics, 1)[0]
}

/// Returns up to `count` patches, at least one, ranked as [`representative`] ranks them, the best
/// first.
///
/// # Shapes
/// As for [`representative`].
///
/// # Panics
/// When a length does not fit the synthesiser's geometry.
pub fn most_representative<T: Element>(
    synth: &Synthesiser,
    tile: &[u8],
    anatomy: &[T],
    characteristics: &[T],
    count: usize,
) -> Vec<usize> {
    let geometry = synth.geometry();
    let (mut scratch, mut out) = (synth.scratch(), vec![0; tile.len()]);
    let tissue = tissue(geometry, tile);
    let none = !tissue.contains(&true);
    let candidates = (0..tissue.len()).filter(|&patch| none || tissue[patch]);
    let mut error = |patch: usize| {
        synth.broadcast(
            anatomy,
            &style_of(geometry, characteristics, patch).0,
            &mut scratch,
            &mut out,
        );
        out.iter()
            .zip(tile)
            .map(|(&a, &b)| (i64::from(a) - i64::from(b)).pow(2) as u64)
            .sum::<u64>()
    };
    let mut ranked: Vec<(u64, usize)> = candidates.map(|patch| (error(patch), patch)).collect();
    ranked.sort_unstable();
    ranked.truncate(count.max(1));
    ranked.into_iter().map(|(_, patch)| patch).collect()
}

/// Returns the style of one patch, `[S]` out of `[N, S]`.
///
/// # Panics
/// When `patch` is not less than N.
pub fn style_of<T: Element>(geometry: &Geometry, characteristics: &[T], patch: usize) -> Style {
    let mut buffer = vec![0.0; geometry.style_len()];
    Style(T::widen(latent::token(geometry, characteristics, patch), &mut buffer).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::GeometrySpec;
    use crate::{Normalisation, PixelOrder};

    #[test]
    fn tiles_of_unusual_colour_are_not_typical() {
        let tiles: Vec<Vec<u8>> = [100, 250, 104, 98, 3].map(|value| vec![value; 12]).into();
        assert_eq!(typical(&tiles, 3), [0, 2, 3]);
        assert_eq!(typical(&tiles, 9), [0, 1, 2, 3, 4]);
        assert!(typical(&tiles[..0], 3).is_empty());
    }

    fn geometry() -> Geometry {
        let spec = GeometrySpec {
            image_size: 4,
            in_channels: 3,
            patch_size: 2,
            embed_dim: 24,
            depth: 1,
            num_heads: 1,
            mlp_ratio: 1.0,
            style_bias: false,
        };
        Geometry::new(spec).unwrap()
    }

    #[test]
    fn white_is_no_tissue() {
        let geometry = geometry();
        let mut tile = vec![250; geometry.tile_bytes()];
        assert_eq!(tissue(&geometry, &tile), [false; 4]);
        // The first patch: two pixels of the first two rows.
        [0..6, 12..18].into_iter().for_each(|range| tile[range].fill(150));
        assert_eq!(tissue(&geometry, &tile), [true, false, false, false]);
        assert!(is_tissue(&geometry, &tile, 0.25) && !is_tissue(&geometry, &tile, ENOUGH_TISSUE));
    }

    #[test]
    fn white_black_and_flat_patches_have_no_stain() {
        let geometry = geometry();
        // Four patches of 2×2 pixels: white, black, flat, tissue.
        let row = |top: u8, bottom: u8, spread: u8| {
            [[top; 6], [bottom, bottom, bottom, bottom + spread, bottom, bottom]].concat()
        };
        let tile =
            [row(250, 2, 20), row(250, 2, 20), row(120, 120, 40), row(120, 120, 40)].concat();
        assert_eq!(stained(&geometry, &tile), [false, false, false, true]);
        assert!(has_stain(&tile, 4, 2) && !has_stain(&tile[..24], 4, 2));
        assert_eq!(tissue(&geometry, &tile), [false, true, true, true]);
    }

    #[test]
    fn the_patch_that_gives_the_tile_back_is_the_one_that_is_kept() {
        let geometry = geometry();
        let synth = Synthesiser::new(
            geometry,
            PixelOrder::Planar,
            Normalisation::new([0.5; 3], [0.2; 3]).unwrap(),
        );
        let anatomy = vec![1.0f32; geometry.tile_anatomy()];
        let row = |value: f32| vec![value; geometry.style_len()];
        let characteristics = [row(3.0), row(-1.0), row(-0.2), row(2.0)].concat();
        let mut tile = vec![0; geometry.tile_bytes()];
        synth.broadcast(&anatomy, &row(-0.2), &mut synth.scratch(), &mut tile);
        assert_eq!(representative(&synth, &tile, &anatomy, &characteristics), 2);
        assert_eq!(most_representative(&synth, &tile, &anatomy, &characteristics, 3)[..2], [2, 1]);
        assert_eq!(most_representative(&synth, &tile, &anatomy, &characteristics, 99).len(), 4);
        assert_eq!(style_of(&geometry, &characteristics, 2).0, row(-0.2));
    }
}
