//! The contents of a request, as a function of the run's seed and the request's number, so that a
//! run is reproducible.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The distribution that requests are drawn from.
pub(crate) struct Mix {
    pub seed: u64,
    pub tiles_per_request: Vec<usize>,
    pub variants: Vec<usize>,
    /// Tiles of the pool.
    pub pool: usize,
}

/// One request, drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draw {
    /// Indices into the pool; all different if the pool is large enough.
    pub tiles: Vec<usize>,
    pub variants: usize,
    /// The seed that the request carries, which JSON can hold exactly.
    pub seed: u64,
}

impl Mix {
    pub(crate) fn draw(&self, number: u64) -> Draw {
        let mut dice = ChaCha8Rng::seed_from_u64(self.seed);
        dice.set_stream(number);
        let count = self.tiles_per_request[below(&mut dice, self.tiles_per_request.len())];
        let variants = self.variants[below(&mut dice, self.variants.len())];
        // A run of neighbours from a random place on: different, and drawn at once.
        let first = below(&mut dice, self.pool);
        let tiles = (first..first + count).map(|tile| tile % self.pool).collect();
        Draw { tiles, variants, seed: dice.next_u64() >> 11 }
    }

    /// Returns the largest number of tiles of a request.
    pub(crate) fn largest(&self) -> usize {
        self.tiles_per_request.iter().copied().max().unwrap_or(1)
    }
}

/// Returns a uniform number in `0..bound`: the high half of a product, whose bias for such bounds
/// is below 2^-40.
fn below(dice: &mut ChaCha8Rng, bound: usize) -> usize {
    ((u128::from(dice.next_u64()) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_number_of_the_lists_is_drawn_and_a_number_has_one_draw() {
        let mix =
            Mix { seed: 3, tiles_per_request: vec![1, 8, 32], variants: vec![1, 4], pool: 40 };
        let draws: Vec<_> = (0..200).map(|number| mix.draw(number)).collect();
        let kinds: BTreeSet<_> =
            draws.iter().map(|draw| (draw.tiles.len(), draw.variants)).collect();
        assert_eq!(kinds.len(), 6);
        assert!(
            draws
                .iter()
                .all(|draw| draw.tiles.iter().collect::<BTreeSet<_>>().len() == draw.tiles.len())
        );
        assert!(draws.iter().all(|draw| draw.seed < 1 << 53));
        assert_eq!(draws[7], mix.draw(7));
        assert_ne!(draws[7], Mix { seed: 4, ..mix }.draw(7));
    }
}
