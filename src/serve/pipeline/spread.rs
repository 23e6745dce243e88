//! Styles drawn wider, or narrower, than the bank holds them (`style.spread`).
//!
//! Of the styles that a request leaves to choose from, m is the mean and c₁…cₙ are the deviations
//! from it. At a spread s the style that was chosen, x, becomes
//!   s ≤ 1   m + s·(x − m)
//!   s > 1   m + p·(x + u·(y − x) − m) + ½a·Σ gᵢcᵢ/√(n−1), with a = s − 1,
//! y another style of them, u in 0..min(a, 1), the push p in 1 − min(a, 1)/2 .. 1 + 0.8a, and gᵢ
//! standard normal: noise with half the bank's covariance at s = 2. The statistics that colour
//! matching takes go the same way as the style. A spread of 1 changes nothing.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::source::Source;
use crate::serve::styles::Offer;
use restain_method::color::ChannelStats;

/// Numbers of [`ChannelStats`]: mean and deviation of each channel.
const STATISTICS: usize = 6;
/// How much further than the mean's distance a style is pushed at most, for each unit of spread
/// above 1.
const PUSH: f32 = 0.8;
/// Share of the bank's covariance that is added as noise, for each unit of spread above 1.
const NOISE: f32 = 0.5;

/// The styles that a request leaves to choose from, and how wide they are drawn.
pub struct Spread {
    spread: f32,
    /// Places in the bank.
    styles: Vec<usize>,
    /// `[h + 6]`
    mean: Vec<f32>,
    /// `[n, h + 6]`: each style less the mean.
    deviations: Vec<f32>,
}

/// A style that the bank does not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// `[h]`
    pub style: Vec<f32>,
    pub source: ChannelStats,
}

impl Spread {
    /// Nothing at a spread of 1, or where styles are not of the bank.
    pub fn new(bank: &Offer, source: &Source, spread: f32) -> Option<Self> {
        let Source::Bank(groups) = source else { return None };
        if spread == 1.0 {
            return None;
        }
        let styles = groups.concat();
        let mut deviations: Vec<f32> = styles.iter().flat_map(|&style| row(bank, style)).collect();
        let width = deviations.len() / styles.len();
        let mut mean = vec![0.0; width];
        for row in deviations.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / styles.len() as f32);
        }
        for row in deviations.chunks_exact_mut(width) {
            row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
        }
        Some(Self { spread, styles, mean, deviations })
    }

    /// How wide styles are drawn.
    pub fn width(&self) -> f32 {
        self.spread
    }

    /// Draws the style that takes the place of a chosen one.
    ///
    /// # Panics
    /// When the request does not leave it to choose from.
    pub fn draw(&self, chosen: usize, generator: &mut ChaCha8Rng) -> Drawn {
        let place = self.styles.iter().position(|&style| style == chosen);
        let own = self.deviation(place.expect("one of the styles of the request"));
        let above = (self.spread - 1.0).max(0.0);
        let mut drawn = self.mean.clone();
        if above == 0.0 {
            add(&mut drawn, self.spread, own);
            return self.finish(drawn);
        }
        let other = self.deviation((uniform(generator) * self.styles.len() as f32) as usize);
        let (mix, nearer) = (uniform(generator) * above.min(1.0), above.min(1.0) / 2.0);
        let push = 1.0 - nearer + uniform(generator) * (nearer + PUSH * above);
        add(&mut drawn, push * (1.0 - mix), own);
        add(&mut drawn, push * mix, other);
        let share = NOISE * above / ((self.styles.len() - 1).max(1) as f32).sqrt();
        for place in 0..self.styles.len() {
            add(&mut drawn, share * normal(generator), self.deviation(place));
        }
        self.finish(drawn)
    }

    fn deviation(&self, place: usize) -> &[f32] {
        let width = self.mean.len();
        &self.deviations[place.min(self.styles.len() - 1) * width..][..width]
    }

    fn finish(&self, mut drawn: Vec<f32>) -> Drawn {
        let numbers = drawn.split_off(drawn.len() - STATISTICS);
        let source = ChannelStats {
            mean: std::array::from_fn(|c| numbers[c].clamp(0.0, 1.0)),
            std: std::array::from_fn(|c| numbers[3 + c].max(0.0)),
        };
        Drawn { style: drawn, source }
    }
}

/// A style with the statistics of its source, `[h + 6]`.
fn row(bank: &Offer, style: usize) -> impl Iterator<Item = f32> {
    let entry = bank.style(style);
    let ChannelStats { mean, std } = entry.source;
    entry.style.0.iter().copied().chain(mean).chain(std)
}

fn add(sum: &mut [f32], factor: f32, row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
}

/// Uniform in 0..1, below 1.
pub(super) fn uniform(generator: &mut ChaCha8Rng) -> f32 {
    (generator.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// Standard normal (Box and Muller 1958).
fn normal(generator: &mut ChaCha8Rng) -> f32 {
    let (radius, angle) = (1.0 - uniform(generator), uniform(generator));
    (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use restain_bundle::StyleBank;
    use restain_method::Style;

    fn spread(spread: f32, values: &[f32]) -> Spread {
        let mut bank = StyleBank::default();
        for &value in values {
            let source = ChannelStats { mean: [0.4 + value / 10.0; 3], std: [0.1; 3] };
            bank.push("a", Style(vec![value, -value]), source);
        }
        let all = Source::Bank(vec![(0..values.len()).collect()]);
        Spread::new(&Offer::of(bank), &all, spread).unwrap()
    }

    fn drawn(spread: &Spread, count: u64) -> Vec<Drawn> {
        let draw = |stream| {
            let mut generator = ChaCha8Rng::seed_from_u64(5);
            generator.set_stream(stream);
            spread.draw(1, &mut generator)
        };
        (0..count).map(draw).collect()
    }

    #[test]
    fn at_nought_every_style_is_the_mean_and_at_a_half_half_way_to_it() {
        let values = [1.0, 2.0, 6.0];
        for (width, wanted) in [(0.0, 3.0), (0.5, 2.5)] {
            let [style] = &drawn(&spread(width, &values), 1)[..] else { unreachable!() };
            assert!((style.style[0] - wanted).abs() < 1e-5 && style.style[0] == -style.style[1]);
            assert!((style.source.mean[1] - 0.4 - wanted / 10.0).abs() < 1e-5, "{style:?}");
        }
    }

    #[test]
    fn the_wider_the_further_from_the_bank_and_along_its_directions() {
        let values = [-1.0, 1.0, -1.0, 1.0];
        let deviation = |width| {
            let all = drawn(&spread(width, &values), 2000);
            assert!(all.iter().all(|drawn| (drawn.style[0] + drawn.style[1]).abs() < 1e-4));
            let mean = all.iter().map(|drawn| drawn.style[0]).sum::<f32>() / all.len() as f32;
            let squares = all.iter().map(|drawn| (drawn.style[0] - mean).powi(2)).sum::<f32>();
            (squares / all.len() as f32).sqrt()
        };
        let [narrow, pilot, wide] = [1.2, 2.0, 3.0].map(deviation);
        assert!(narrow < pilot && pilot < wide, "{narrow}, {pilot}, {wide}");
        assert!((0.7..1.3).contains(&pilot), "{pilot}");
    }

    #[test]
    fn a_spread_of_one_and_a_single_style_change_nothing() {
        let bank = Offer::of(StyleBank::default());
        assert!(Spread::new(&bank, &Source::Bank(vec![vec![0]]), 1.0).is_none());
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let one = spread(3.0, &[2.0]);
        assert_eq!(one.draw(0, &mut generator).style, [2.0, -2.0]);
    }
}
