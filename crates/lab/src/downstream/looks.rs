//! The stains that variants take, and how one is drawn for a tile.
//!
//! All techniques that take them draw the same random numbers, so that `color-match` and `vit` use
//! the stain of the same tile or bank entry for the same tile in the same epoch.

use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::classifier::Tiles;
use restain_bundle::StyleBank;
use restain_data::below;
use restain_method::Style;
use restain_method::color::{ChannelStats, color_match};
use restain_method::rand_stain_na::{self, RandStainNa};
use restain_method::spread::Spread;

/// Tiles that a distribution of stains is fitted to, at least.
const FITTED: usize = 1000;

/// A target stain.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub stats: ChannelStats,
    /// Empty without a model.
    pub style: Style,
}

/// The stains to draw from.
pub(super) struct Looks {
    all: Vec<Look>,
    /// Places in `all` by domain, of which none is empty: a domain is drawn, then one of its
    /// stains. `None` if the nth stain is that of the nth training tile, which never takes its own.
    domains: Option<Vec<Vec<usize>>>,
}

impl Looks {
    /// Takes the styles of a bundle.
    ///
    /// # Errors
    /// If it has none.
    pub(super) fn of_bank(bank: &StyleBank) -> Result<Self> {
        ensure!(
            !bank.entries.is_empty(),
            "the bundle has no styles: add some with `restain-train styles`, or use --styles train"
        );
        let domain = |domain: usize| {
            let entries = bank.entries.iter().filter(move |entry| entry.domain == domain);
            entries.map(|entry| Look { stats: entry.source, style: entry.style.clone() }).collect()
        };
        Ok(Self::of_domains((0..bank.domains.len()).map(domain)))
    }

    /// Takes the stains of every domain that has any.
    pub(super) fn of_domains(domains: impl IntoIterator<Item = Vec<Look>>) -> Self {
        let (mut all, mut places) = (Vec::new(), Vec::new());
        for looks in domains.into_iter().filter(|looks| !looks.is_empty()) {
            places.push((all.len()..all.len() + looks.len()).collect());
            all.extend(looks);
        }
        Self { all, domains: Some(places) }
    }

    /// Takes the stain of every training tile.
    ///
    /// # Errors
    /// If there is only one.
    pub(super) fn of_tiles(all: Vec<Look>) -> Result<Self> {
        ensure!(
            all.len() > 1,
            "with one training tile there is no other tile to take a style from"
        );
        Ok(Self { all, domains: None })
    }

    /// These stains and those, which are further domains.
    pub(super) fn with(&self, others: &Self) -> Self {
        let of = |looks: &Self| -> Vec<Vec<Look>> {
            let whole = vec![(0..looks.all.len()).collect()];
            let domains = looks.domains.as_ref().unwrap_or(&whole);
            let look = |places: &Vec<usize>| {
                places.iter().map(|&place| looks.all[place].clone()).collect()
            };
            domains.iter().map(look).collect()
        };
        Self::of_domains([of(self), of(others)].concat())
    }

    pub(super) fn all(&self) -> &[Look] {
        &self.all
    }

    /// Draws a stain for a training tile: its place in [`Looks::all`].
    pub(super) fn place(&self, tile: usize, rng: &mut ChaCha8Rng) -> usize {
        let mut below = |n: usize| below(rng, n as u64) as usize;
        match &self.domains {
            Some(domains) => {
                let domain = &domains[below(domains.len())];
                domain[below(domain.len())]
            }
            None => (tile + 1 + below(self.all.len() - 1)) % self.all.len(),
        }
    }

    /// Draws a stain for a training tile.
    pub(super) fn draw(&self, tile: usize, rng: &mut ChaCha8Rng) -> &Look {
        &self.all[self.place(tile, rng)]
    }

    /// Measures the styles, to draw them wider.
    pub(super) fn spread(&self, width: f32) -> Spread {
        Spread::new(self.all.iter().map(|look| (&look.style, look.stats)), width)
    }

    /// Fits RandStainNA's distribution to the L*a*b* of these stains. A bank has statistics in RGB
    /// and no pixels: the distribution is that of training tiles, each matched to a stain that is
    /// drawn for it, which is what `color-match` makes. Where the stains are those of the training
    /// tiles, it is that of the tiles themselves, as published.
    pub(super) fn distribution(&self, tiles: &Tiles, stats: &[ChannelStats]) -> RandStainNa {
        let of_tile = |tile: &Vec<u8>| rand_stain_na::statistics(tile);
        if self.domains.is_none() {
            return RandStainNa::fit(&tiles.pixels.iter().map(of_tile).collect::<Vec<_>>());
        }
        let mut matched = vec![0; 3 * tiles.side * tiles.side];
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let of_stain = |n: usize| {
            let tile = n % tiles.len();
            let target = self.draw(tile, &mut rng).stats;
            color_match(&tiles.pixels[tile], &stats[tile], &target, &mut matched);
            of_tile(&matched)
        };
        RandStainNa::fit(&(0..FITTED.max(tiles.len())).map(of_stain).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(level: f32) -> Look {
        let stats = ChannelStats { mean: [level; 3], std: [0.1, 0.12, 0.08] };
        Look { stats, style: Style(vec![level]) }
    }

    fn tiles() -> Tiles {
        let tile = |n: u32| (0..300).map(|i| (80 + (i * i * 7 + i * n) % 120) as u8).collect();
        Tiles { pixels: (3..6).map(tile).collect(), labels: vec![0; 3], side: 10 }
    }

    #[test]
    fn a_domain_is_drawn_before_its_stains() {
        let looks = Looks::of_domains([vec![look(0.1)], vec![], vec![look(0.2), look(0.3)]]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0; 3];
        (0..4000).for_each(|_| counts[looks.place(0, &mut rng)] += 1);
        let [first, second, third] = counts;
        assert!((1850..2150).contains(&first), "{counts:?}");
        assert!((900..1100).contains(&second) && (900..1100).contains(&third), "{counts:?}");
    }

    #[test]
    fn further_stains_are_further_domains() {
        let bank = Looks::of_domains([vec![look(0.1), look(0.2)], vec![look(0.3)]]);
        let targets = Looks::of_domains([vec![look(0.4)]]);
        let joined = bank.with(&targets);
        let levels: Vec<f32> = joined.all().iter().map(|look| look.style.0[0]).collect();
        assert_eq!(levels, [0.1, 0.2, 0.3, 0.4]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0u32; 4];
        (0..3000).for_each(|_| counts[joined.place(0, &mut rng)] += 1);
        assert!(counts[2].abs_diff(1000) < 120 && counts[3].abs_diff(1000) < 120, "{counts:?}");
        let of_tiles = Looks::of_tiles(vec![look(0.1), look(0.2)]).unwrap().with(&targets);
        (0..300).for_each(|_| assert!(of_tiles.place(0, &mut rng) < 3));
    }

    #[test]
    fn a_bank_is_drawn_from_by_domain_whatever_the_order_of_its_styles() {
        let mut bank = StyleBank::default();
        for (domain, level) in [("a", 1.0), ("b", 2.0), ("a", 3.0)] {
            bank.push(domain, look(level).style, look(level).stats);
        }
        let looks = Looks::of_bank(&bank).unwrap();
        let styles: Vec<f32> = looks.all().iter().map(|look| look.style.0[0]).collect();
        assert_eq!(styles, [1.0, 3.0, 2.0]);
        assert!(Looks::of_bank(&StyleBank::default()).is_err());
    }

    #[test]
    fn without_a_bank_the_distribution_is_that_of_the_tiles_and_with_one_of_matched_tiles() {
        let tiles = tiles();
        let stats: Vec<ChannelStats> =
            tiles.pixels.iter().map(|tile| ChannelStats::from_tile(tile)).collect();
        let of = |tiles: &[Vec<u8>]| {
            let lab = tiles.iter().map(|tile| rand_stain_na::statistics(tile));
            RandStainNa::fit(&lab.collect::<Vec<_>>())
        };
        let looks = stats.iter().map(|&stats| Look { stats, style: Style(Vec::new()) });
        let own = Looks::of_tiles(looks.collect()).unwrap();
        assert_eq!(own.distribution(&tiles, &stats), of(&tiles.pixels));

        // Of one stain, each of a thousand is one of the three tiles in it.
        let one = Looks::of_domains([vec![look(0.6)]]);
        let matched: Vec<Vec<u8>> = (0..FITTED)
            .map(|n| {
                let mut out = vec![0; 300];
                color_match(&tiles.pixels[n % 3], &stats[n % 3], &look(0.6).stats, &mut out);
                out
            })
            .collect();
        assert_eq!(one.distribution(&tiles, &stats), of(&matched));
    }
}
