//! A large tile in windows: overlapping pieces of it that the model sees one by one.
//!
//! A model of 96 px sees a tile of 4,096 px 42 times smaller, and no nucleus in it. So past some
//! scale the tile is first brought to a *canvas*, the tile shrunk by that scale, and the canvas is
//! covered by windows of the model's size. What a style changes is computed in each window and
//! blended on the canvas, and the canvas's change is then resampled to the tile
//! ([`upsample`](super::upsample)), as that of a small tile is. A tile that needs no windows is one
//! window, which is the whole canvas.
//!
//! Windows lie evenly, at least a quarter of their side over each other. Along each axis a window
//! weighs min(place + 1, side − place, side / 4) at its `place`-th pixel, divided by the sum over
//! all windows: the weights of a pixel add up to 1, and none jumps.

use super::geometry::CHANNELS;

/// Windows overlap by at least one part in so many of their side.
const OVERLAP: usize = 4;
/// The smallest scale: a tile is enlarged for the model by at most the inverse.
const LEAST_SCALE: f64 = 0.25;

/// At which scale the model sees tiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    side: usize,
    most: f64,
}

impl Scaling {
    /// Brings every tile to one window of `side` pixels a side, whatever its size.
    pub fn whole(side: usize) -> Self {
        Self { side, most: f64::INFINITY }
    }

    /// Windows of `side` pixels a side, in which a pixel stands for at most `most` pixels of the
    /// tile along each side.
    pub fn up_to(side: usize, most: f64) -> Self {
        Self { side, most: most.max(LEAST_SCALE) }
    }

    /// The same for tiles of which it is known how many µm a pixel has, for a model that knows up
    /// to `coarsest` µm a pixel.
    pub fn within(self, mpp: f64, coarsest: f64) -> Self {
        Self::up_to(self.side, self.most.min(coarsest / mpp))
    }

    /// Returns the windows of a tile of this width and height.
    ///
    /// # Panics
    /// When one is 0.
    pub fn windows(&self, (width, height): (usize, usize)) -> Windows {
        assert!(width > 0 && height > 0, "a tile has pixels");
        let Self { side, most } = *self;
        let fits = |length: usize| length as f64 <= most * side as f64;
        if fits(width) && fits(height) {
            return Windows::of_canvas(side, (side, side));
        }
        // Narrow tiles are shrunk less, so that the narrow side fills a window.
        let narrow = width.min(height) as f64 / side as f64;
        let scale = most.min(narrow.max(most / 4.0));
        let length = |pixels: usize| ((pixels as f64 / scale).round() as usize).max(side);
        Windows::of_canvas(side, (length(width), length(height)))
    }
}

/// The windows of one tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    side: usize,
    columns: Axis,
    rows: Axis,
}

/// Windows along one axis.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Axis {
    length: usize,
    /// The first pixel of each.
    starts: Vec<usize>,
}

impl Windows {
    /// Covers a canvas, width and height in pixels.
    ///
    /// # Panics
    /// When a side of the canvas is below the window's.
    pub fn of_canvas(side: usize, (width, height): (usize, usize)) -> Self {
        Self { side, columns: Axis::new(side, width), rows: Axis::new(side, height) }
    }

    /// Returns the pixels of a window's side.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Returns the width and height of the canvas, pixels.
    pub fn canvas(&self) -> (usize, usize) {
        (self.columns.length, self.rows.length)
    }

    /// Returns the number of windows, at least 1.
    pub fn count(&self) -> usize {
        self.columns.starts.len() * self.rows.starts.len()
    }

    /// Returns the first line of each row of windows and the first column of each column of them,
    /// pixels of the canvas.
    pub fn starts(&self) -> (&[usize], &[usize]) {
        (&self.rows.starts, &self.columns.starts)
    }

    /// Returns whether one window is the whole canvas.
    pub fn is_whole(&self) -> bool {
        self.count() == 1
    }

    /// Returns the pixels of the `index`-th window, u8 `[side, side, 3]`.
    ///
    /// # Shapes
    /// `canvas` u8 `[height, width, 3]`.
    ///
    /// # Panics
    /// When the canvas has another size, or there is no such window.
    pub fn cut(&self, index: usize, canvas: &[u8]) -> Vec<u8> {
        assert_eq!(canvas.len(), self.columns.length * self.rows.length * CHANNELS);
        self.lines(index).flat_map(|line| &canvas[line]).copied().collect()
    }

    /// Adds the change of the `index`-th window to that of the canvas, by its weight.
    ///
    /// # Shapes
    /// `change` f32 `[side, side, 3]`, `canvas` f32 `[height, width, 3]`.
    ///
    /// # Panics
    /// When a length is another, or there is no such window.
    pub fn blend(&self, index: usize, change: &[f32], canvas: &mut [f32]) {
        assert_eq!(change.len(), self.side * self.side * CHANNELS, "change is [side, side, 3]");
        let (row, column) = self.place(index);
        let (down, across) =
            (self.rows.weights(self.side, row), self.columns.weights(self.side, column));
        let changes = change.chunks_exact(self.side * CHANNELS);
        for ((line, change), down) in self.lines(index).zip(changes).zip(down) {
            let values = canvas[line].as_chunks_mut::<CHANNELS>().0;
            let changes = change.as_chunks::<CHANNELS>().0;
            for ((value, change), across) in values.iter_mut().zip(changes).zip(&across) {
                let weight = down * across;
                for channel in 0..CHANNELS {
                    value[channel] += change[channel] * weight;
                }
            }
        }
    }

    /// The values of a canvas that each line of a window is.
    fn lines(&self, index: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (row, column) = self.place(index);
        let (top, left) = (self.rows.starts[row], self.columns.starts[column]);
        let (width, side) = (self.columns.length, self.side);
        (top..top + side).map(move |y| {
            let start = (y * width + left) * CHANNELS;
            start..start + side * CHANNELS
        })
    }

    fn place(&self, index: usize) -> (usize, usize) {
        let columns = self.columns.starts.len();
        (index / columns, index % columns)
    }
}

impl Axis {
    fn new(side: usize, length: usize) -> Self {
        assert!(side > 0 && length >= side, "a canvas is at least one window");
        let overlap = side / OVERLAP;
        let count = (length - overlap).div_ceil(side - overlap);
        let apart = count.max(2) - 1;
        // Rounded to the nearest pixel.
        let start = |index: usize| (2 * index * (length - side) + apart) / (2 * apart);
        Self { length, starts: (0..count).map(start).collect() }
    }

    /// The weights of the `index`-th window's pixels.
    fn weights(&self, side: usize, index: usize) -> Vec<f32> {
        let weight = |start: usize, pixel: usize| match pixel.checked_sub(start) {
            Some(place) if place < side => {
                (place + 1).min(side - place).min((side / OVERLAP).max(1))
            }
            _ => 0,
        };
        let own = self.starts[index];
        let of = |pixel: usize| {
            let all: usize = self.starts.iter().map(|&start| weight(start, pixel)).sum();
            weight(own, pixel) as f32 / all as f32
        };
        (own..own + side).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(size: (usize, usize)) -> Windows {
        Scaling::up_to(96, 4.0).windows(size)
    }

    #[test]
    fn a_tile_within_the_scale_is_one_window_and_a_larger_one_is_covered() {
        for size in [(16, 16), (96, 96), (384, 384), (384, 20), (100, 383)] {
            assert!(windows(size).is_whole() && windows(size).canvas() == (96, 96), "{size:?}");
        }
        // The canvas is the tile four times smaller, at least a window high and wide.
        for (size, canvas, count) in [
            ((385, 385), (96, 96), 1),
            ((512, 512), (128, 128), 4),
            ((1024, 512), (256, 128), 8),
            ((4096, 4096), (1024, 1024), 14 * 14),
            // The narrow side fills a window, up to a quarter of the scale.
            ((1000, 300), (320, 96), 5),
            ((2000, 16), (2000, 96), 28),
        ] {
            let windows = windows(size);
            assert_eq!((windows.canvas(), windows.count()), (canvas, count), "{size:?}");
        }
        assert!(Scaling::whole(96).windows((8192, 300)).is_whole());
    }

    #[test]
    fn a_known_magnification_is_brought_to_what_the_model_knows() {
        let scaling = Scaling::up_to(96, 4.0);
        // .25 µm a pixel: at 1 µm the model sees four times fewer. At 1 µm and .5: twice as many.
        for (mpp, coarsest, canvas) in
            [(0.25, 1.0, 128), (0.5, 1.0, 256), (1.0, 0.5, 1024), (9.0, 0.1, 2048)]
        {
            let windows = scaling.within(mpp, coarsest).windows((512, 512));
            assert_eq!(windows.canvas(), (canvas, canvas), "{mpp}");
        }
        assert!(scaling.within(0.25, 1.0).windows((96, 96)).is_whole());
    }

    #[test]
    fn windows_start_at_both_ends_and_overlap_by_a_quarter() {
        for length in [96, 97, 130, 168, 169, 240, 500, 1024] {
            let Axis { starts, .. } = Axis::new(96, length);
            assert_eq!((starts[0], starts[starts.len() - 1]), (0, length - 96), "{length}");
            assert!(starts.windows(2).all(|pair| pair[1] - pair[0] <= 72), "{length}: {starts:?}");
        }
    }

    #[test]
    fn a_window_has_its_piece_of_the_canvas() {
        let windows = Windows::of_canvas(4, (6, 5));
        let canvas: Vec<u8> = (0..6 * 5 * 3).collect();
        let of = |index: usize| windows.cut(index, &canvas);
        assert_eq!(windows.count(), 4);
        assert_eq!(of(0)[..12], canvas[..12]);
        assert_eq!(of(3)[..12], canvas[(6 + 2) * 3..][..12]);
        assert_eq!(of(3)[36..], canvas[(4 * 6 + 2) * 3..][..12]);
    }

    #[test]
    fn the_same_change_in_every_window_is_that_change_without_a_seam() {
        for canvas in [(96, 96), (100, 97), (250, 333), (1024, 128)] {
            let windows = Windows::of_canvas(96, canvas);
            let mut sum = vec![0.0; canvas.0 * canvas.1 * 3];
            for index in 0..windows.count() {
                windows.blend(index, &vec![-20.0; 96 * 96 * 3], &mut sum);
            }
            assert!(sum.iter().all(|value| (value + 20.0f32).abs() < 1e-4), "{canvas:?}");
        }
    }

    /// Two windows of 12 pixels, 6 of them in common. At each end a window weighs 1, 2, then 3, a
    /// fourth of its side; worked out by hand.
    #[test]
    fn where_windows_differ_their_changes_are_blended() {
        let axis = Axis::new(12, 18);
        assert_eq!(axis.starts, [0, 6]);
        let first = axis.weights(12, 0);
        assert_eq!(first[..6], [1.0; 6]);
        let expected = [3.0 / 4.0, 3.0 / 5.0, 3.0 / 6.0, 3.0 / 6.0, 2.0 / 5.0, 1.0 / 4.0];
        for (weight, expected) in first[6..].iter().zip(expected) {
            assert!((weight - expected as f32).abs() < 1e-6, "{first:?}");
        }
    }
}
