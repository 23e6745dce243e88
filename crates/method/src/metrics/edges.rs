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
        let row = width * 3;
        for (i, value) in tile.iter().enumerate() {
            let (x, y) = (i % row / 3, i / row);
            if x > 0 {
                self.step(x.is_multiple_of(patch), *value, tile[i - 3]);
            }
            if y > 0 {
                self.step(y.is_multiple_of(patch), *value, tile[i - row]);
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

    fn step(&mut self, border: bool, a: u8, b: u8) {
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
}
