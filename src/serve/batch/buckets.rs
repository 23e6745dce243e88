//! The sizes that batches are padded to. Few, each run once before the server is ready, so that no
//! caller pays for a shape that the engine has not seen; close enough that padding is never a third
//! of a batch.

/// 1, 2, 3, 4, 6, 8, 12, 16, … up to the largest batch, which is always one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets(Vec<usize>);

impl Buckets {
    /// # Panics
    /// When `largest` is 0.
    pub fn up_to(largest: usize) -> Self {
        assert!(largest > 0, "a batch has at least one tile");
        let powers = (0..usize::BITS).map(|power| 1usize << power);
        let between =
            powers.flat_map(|power| [power, power + power / 2]).take_while(|size| *size < largest);
        let mut sizes: Vec<usize> = between.collect();
        sizes.dedup();
        sizes.push(largest);
        Self(sizes)
    }

    /// From the smallest up.
    pub fn sizes(&self) -> &[usize] {
        &self.0
    }

    pub fn largest(&self) -> usize {
        self.0[self.0.len() - 1]
    }

    /// The size that so many tiles are padded to.
    ///
    /// # Panics
    /// When they are more than the largest batch.
    pub fn of(&self, tiles: usize) -> usize {
        self.0[self.0.partition_point(|size| *size < tiles)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_less_than_a_third_of_a_batch() {
        let buckets = Buckets::up_to(64);
        for tiles in 1..=64 {
            let size = buckets.of(tiles);
            assert!(size >= tiles && (size - tiles) * 3 < size, "{tiles} in {size}");
        }
    }

    #[test]
    fn the_largest_batch_is_always_a_bucket() {
        assert_eq!(Buckets::up_to(1).sizes(), [1]);
        assert_eq!(Buckets::up_to(12).sizes(), [1, 2, 3, 4, 6, 8, 12]);
        assert_eq!(Buckets::up_to(20).sizes(), [1, 2, 3, 4, 6, 8, 12, 16, 20]);
        assert_eq!([1, 5, 9, 20].map(|tiles| Buckets::up_to(20).of(tiles)), [1, 6, 12, 20]);
    }
}
