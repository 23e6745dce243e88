//! Which style a variant has: a function of bundle digest, tile key, seed and index, and of nothing
//! else. Not of the batch, the machine, the order of arrival or what was drawn before, so any
//! variant can be made again alone.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::plan::Plan;
use super::request::{Placement, Share};
use super::source::{Part, PartFrom, Source};
use restain_bundle::codec::TileKey;

/// The style of one variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A style of the bank.
    Bank(usize),
    /// One for each part of the plan's blend.
    Blend(Vec<usize>),
    /// One patch of a tile of the request.
    Patch(Of, usize),
    /// A whole tile, patch by patch.
    Whole(Of),
    /// The tile keeps its own look: the method takes no style, or there is no stain to take or to
    /// give.
    None,
}

/// A tile of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Tile(usize),
    Reference(usize),
}

/// Tiles of the request that a style can be taken from, in their order.
#[derive(Debug, Default)]
pub struct Givers(pub Vec<Giver>);

/// A tile with the patches of it that have a stain; at least one.
#[derive(Debug)]
pub struct Giver {
    pub of: Of,
    pub patches: Vec<usize>,
}

/// One variant of one tile.
#[derive(Clone, Copy)]
pub struct Variant<'a> {
    pub key: &'a TileKey,
    /// The tile's place in the request.
    pub tile: usize,
    /// The variant's place among the tile's.
    pub index: usize,
}

/// The generator of one variant: everything random about it is drawn from here.
pub fn generator(digest: &str, key: Option<&TileKey>, seed: u64, index: usize) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new_derive_key("restain 2026 style choice");
    hasher.update(digest.as_bytes());
    hasher.update(key.map_or(&[0; 32], |key| key.as_bytes()));
    hasher.update(&seed.to_le_bytes());
    let mut generator = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
    generator.set_stream(index as u64);
    generator
}

/// The style of one variant, and the generator for whatever else is random about it. Where no other
/// tile has a stain to give, a variant keeps its tile's own look.
pub fn choose(plan: &Plan, givers: &Givers, variant: Variant<'_>) -> (Choice, ChaCha8Rng) {
    let key = (plan.style.share == Share::Tile).then_some(variant.key);
    let mut generator = generator(&plan.model.bundle.digest, key, plan.seed, variant.index);
    let place = givers.0.iter().position(|giver| giver.of == Of::Tile(variant.tile));
    let giver = match &plan.style.source {
        Source::None => return (Choice::None, generator),
        Source::Bank(groups) => {
            let group = &groups[below(&mut generator, groups.len())];
            let entry = group[below(&mut generator, group.len())];
            return (Choice::Bank(entry), generator);
        }
        Source::Blend(parts) => {
            // Part by part; one that is fixed draws nothing.
            let draw = |part: &Part| match &part.from {
                PartFrom::Style(style) => *style,
                PartFrom::Domain(styles) => styles[below(&mut generator, styles.len())],
            };
            let styles = parts.iter().map(draw).collect();
            return (Choice::Blend(styles), generator);
        }
        Source::Own => place,
        Source::Batch if plan.style.share == Share::Tile => {
            // One of the others: those behind the tile itself move up by one.
            let others = givers.0.len() - usize::from(place.is_some());
            let other = (others > 0).then(|| below(&mut generator, others));
            other.map(|other| if place.is_some_and(|own| other >= own) { other + 1 } else { other })
        }
        Source::Reference | Source::Batch => {
            let all = givers.0.len();
            (all > 0).then(|| below(&mut generator, all))
        }
    };
    let Some(Giver { of, patches }) = giver.map(|giver| &givers.0[giver]) else {
        return (Choice::None, generator);
    };
    let choice = match plan.style.placement {
        Placement::Aligned => Choice::Whole(*of),
        Placement::Broadcast => Choice::Patch(*of, patches[below(&mut generator, patches.len())]),
    };
    (choice, generator)
}

/// Uniform in `0..bound`: the high half of a product, whose bias for such bounds is below 2^-40.
fn below(generator: &mut ChaCha8Rng, bound: usize) -> usize {
    ((u128::from(generator.next_u64()) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use restain_bundle::codec::RgbImage;

    fn key(value: u8) -> TileKey {
        TileKey::of(&RgbImage { width: 1, height: 1, pixels: vec![value; 3] })
    }

    #[test]
    fn each_of_the_four_changes_what_is_drawn_and_nothing_else_does() {
        let draw = |digest: &str, tile: u8, seed: u64, index: usize| {
            generator(digest, Some(&key(tile)), seed, index).next_u64()
        };
        let first = draw("d", 1, 2, 3);
        assert_eq!(first, draw("d", 1, 2, 3));
        for other in
            [draw("e", 1, 2, 3), draw("d", 0, 2, 3), draw("d", 1, 0, 3), draw("d", 1, 2, 0)]
        {
            assert_ne!(first, other);
        }
    }

    /// The stream is a promise to those who replay: this value may not change between versions.
    #[test]
    fn the_stream_is_the_one_that_was_promised() {
        assert_eq!(generator("digest", Some(&key(7)), 11, 1).next_u64(), PROMISED);
    }
    const PROMISED: u64 = 8_729_310_959_366_362_589;

    #[test]
    fn below_reaches_every_value_about_equally() {
        let mut generator = generator("digest", None, 0, 0);
        let mut counts = [0; 5];
        for _ in 0..10_000 {
            counts[below(&mut generator, 5)] += 1;
        }
        assert!(counts.iter().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
    }
}
