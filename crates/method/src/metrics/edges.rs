//! The blocking artefact of a patch model: differences between neighbouring pixels across patch
//! boundaries, relative to those inside patches.

/// Sums of absolute differences between neighbouring pixels, horizontal and vertical, over the
/// tiles added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockEdges {
    /// Sum of steps and their number: inside patches, then across borders.
    steps: [(u64, u64); 2],
}

impl BlockEdges {
    /// Adds a tile `[H, W, 3] u8`, `width` pixels wide, of patches of `patch` pixels from its
    /// corner on.
    pub fn add(&mut self, tile: &[u8], width: usize, patch: usize) {
        self.add_every(tile, width, patch as f64);
    }

    /// Adds a tile whose patches have `patch` pixels a side and maybe a part of one, as a model's
    /// have in a tile of another size: a border is where the nearest pixel begins.
    pub fn add_every(&mut self, tile: &[u8], width: usize, patch: f64) {
        let row = width * 3;
        let length = width.max(tile.len() / row);
        let mut borders = vec![false; length];
        let places = (1..).map(|n| (f64::from(n) * patch).round() as usize);
        places.take_while(|&place| place < length).for_each(|place| borders[place] = true);
        for (i, value) in tile.iter().enumerate() {
            let (x, y) = (i % row / 3, i / row);
            if x > 0 {
                self.count(borders[x], *value, tile[i - 3]);
            }
            if y > 0 {
                self.count(borders[y], *value, tile[i - row]);
            }
        }
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.steps.iter_mut().zip(other.steps) {
            *own = (own.0 + other.0, own.1 + other.1);
        }
    }

    /// Returns the mean difference across boundaries divided by that inside patches: 1 without a
    /// blocking artefact. NaN when nothing varies, or there is no boundary.
    pub fn ratio(&self) -> f64 {
        let [inside, border] = self.steps.map(|(sum, count)| sum as f64 / count as f64);
        border / inside
    }

    /// Returns the mean difference of neighbours, wherever they lie, levels. NaN without any.
    pub fn step(&self) -> f64 {
        let [inside, border] = self.steps;
        (inside.0 + border.0) as f64 / (inside.1 + border.1) as f64
    }

    fn count(&mut self, border: bool, a: u8, b: u8) {
        let (sum, count) = &mut self.steps[usize::from(border)];
        *sum += u64::from(a.abs_diff(b));
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_has_no_grid_and_steps_between_patches_make_one() {
        let ratio = |level: fn(usize, usize) -> usize| {
            let tile: Vec<u8> = (0..64 * 3).map(|i| level(i / 3 % 8, i / 24) as u8).collect();
            let mut edges = BlockEdges::default();
            edges.add(&tile, 8, 4);
            edges.merge(&BlockEdges::default());
            edges.ratio()
        };
        assert_eq!(ratio(|x, y| 5 * x + 5 * y), 1.0);
        assert_eq!(ratio(|x, y| 5 * x + 5 * y + 10 * (x / 4) + 10 * (y / 4)), 3.0);
        assert!(ratio(|_, _| 7).is_nan());
    }

    #[test]
    fn patches_of_a_part_of_a_pixel_begin_at_the_nearest() {
        // Steps of 9 before columns 3, 5 and 8, of 3 elsewhere.
        let levels = [0u8, 3, 6, 15, 18, 27, 30, 33, 42];
        let tile: Vec<u8> = levels.repeat(2).into_iter().flat_map(|level| [level; 3]).collect();
        let mut edges = BlockEdges::default();
        edges.add_every(&tile, 9, 2.6);
        let (across, borders) = (3 * 2 * (5 * 3 + 3 * 9), 3.0 * 9.0);
        assert_eq!(edges.step(), f64::from(across) / f64::from(3 * (2 * 8 + 9)));
        // Inside are also the differences of the two rows, which are none.
        let inside = 5.0 * 3.0 * 2.0 / (5.0 * 2.0 + 9.0);
        assert!((edges.ratio() - borders / 3.0 / inside).abs() < 1e-9, "{}", edges.ratio());
    }
}
