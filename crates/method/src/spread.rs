//! Styles drawn wider, or narrower, than a bank holds them: the server's `style.spread`.
//!
//! Of the styles to choose from, m is the mean and c₁…cₙ are the deviations from it. At a spread s
//! the style that was chosen, x, becomes
//!   s ≤ 1   m + s·(x − m)
//!   s > 1   m + p·(x + u·(y − x) − m) + ½a·Σ gᵢcᵢ/√(n−1), with a = s − 1,
//! y another style of them, u in 0..min(a, 1), the push p in 1 − min(a, 1)/2 .. 1 + 0.8a, and gᵢ
//! standard normal: noise with half the bank's standard deviation at s = 2. The statistics that
//! colour matching takes go the same way as the style. A spread of 1 changes nothing.

use rand_chacha::ChaCha8Rng;

use super::Style;
use super::color::ChannelStats;
use super::random::{normal, uniform};

/// Numbers of [`ChannelStats`]: mean and deviation of each channel.
const STATISTICS: usize = 6;
/// How much further than the mean's distance a style is pushed at most, for each unit of spread
/// above 1.
const PUSH: f32 = 0.8;
/// Share of the bank's standard deviation that is added as noise, for each unit of spread above 1.
const NOISE: f32 = 0.5;

/// The styles to choose from, and how wide they are drawn.
pub struct Spread {
    spread: f32,
    /// How many styles there are, n.
    styles: usize,
    /// `[h + 6]`
    mean: Vec<f32>,
    /// `[n, h + 6]`: each style less the mean.
    deviations: Vec<f32>,
}

/// A style that the bank does not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The characteristics, `[S]`.
    pub style: Style,
    /// Colour statistics, for colour matching.
    pub source: ChannelStats,
}

impl Spread {
    /// Measures the styles to choose from, each with the statistics of its source.
    ///
    /// # Panics
    /// When there are none, or their lengths differ.
    pub fn new<'a>(
        styles: impl IntoIterator<Item = (&'a Style, ChannelStats)>,
        spread: f32,
    ) -> Self {
        let (mut deviations, mut count) = (Vec::new(), 0);
        for (style, source) in styles {
            deviations.extend(style.0.iter().copied().chain(source.mean).chain(source.std));
            count += 1;
        }
        assert!(count > 0, "there are styles");
        let width = deviations.len() / count;
        assert_eq!(width * count, deviations.len(), "styles of one length");
        let mut mean = vec![0.0; width];
        for row in deviations.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / count as f32);
        }
        for row in deviations.chunks_exact_mut(width) {
            row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
        }
        Self { spread, styles: count, mean, deviations }
    }

    /// Returns how wide styles are drawn.
    pub fn width(&self) -> f32 {
        self.spread
    }

    /// Draws the style that takes the place of a chosen one, which is the nth of the styles.
    ///
    /// # Panics
    /// When there are not as many styles.
    pub fn draw(&self, chosen: usize, generator: &mut ChaCha8Rng) -> Drawn {
        assert!(chosen < self.styles, "one of the styles");
        let own = self.deviation(chosen);
        let above = (self.spread - 1.0).max(0.0);
        let mut drawn = self.mean.clone();
        if above == 0.0 {
            add(&mut drawn, self.spread, own);
            return finish(drawn);
        }
        let other = self.deviation((uniform(generator) * self.styles as f32) as usize);
        let (mix, nearer) = (uniform(generator) * above.min(1.0), above.min(1.0) / 2.0);
        let push = 1.0 - nearer + uniform(generator) * (nearer + PUSH * above);
        add(&mut drawn, push * (1.0 - mix), own);
        add(&mut drawn, push * mix, other);
        let share = NOISE * above / ((self.styles - 1).max(1) as f32).sqrt();
        for place in 0..self.styles {
            add(&mut drawn, share * normal(generator), self.deviation(place));
        }
        finish(drawn)
    }

    fn deviation(&self, place: usize) -> &[f32] {
        let width = self.mean.len();
        &self.deviations[place.min(self.styles - 1) * width..][..width]
    }
}

fn finish(mut drawn: Vec<f32>) -> Drawn {
    let numbers = drawn.split_off(drawn.len() - STATISTICS);
    let source = ChannelStats {
        mean: std::array::from_fn(|c| numbers[c].clamp(0.0, 1.0)),
        std: std::array::from_fn(|c| numbers[3 + c].max(0.0)),
    };
    Drawn { style: Style(drawn), source }
}

fn add(sum: &mut [f32], factor: f32, row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn spread(spread: f32, values: &[f32]) -> Spread {
        let styles: Vec<(Style, ChannelStats)> = values
            .iter()
            .map(|&value| {
                let source = ChannelStats { mean: [0.4 + value / 10.0; 3], std: [0.1; 3] };
                (Style(vec![value, -value]), source)
            })
            .collect();
        Spread::new(styles.iter().map(|(style, source)| (style, *source)), spread)
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
            let Drawn { style: Style(style), source } = &drawn(&spread(width, &values), 1)[0];
            assert!((style[0] - wanted).abs() < 1e-5 && style[0] == -style[1]);
            assert!((source.mean[1] - 0.4 - wanted / 10.0).abs() < 1e-5, "{source:?}");
        }
    }

    #[test]
    fn the_wider_the_further_from_the_bank_and_along_its_directions() {
        let values = [-1.0, 1.0, -1.0, 1.0];
        let deviation = |width| {
            let all = drawn(&spread(width, &values), 2000);
            let first: Vec<f32> = all.iter().map(|drawn| drawn.style.0[0]).collect();
            assert!(all.iter().all(|drawn| (drawn.style.0[0] + drawn.style.0[1]).abs() < 1e-4));
            let mean = first.iter().sum::<f32>() / all.len() as f32;
            let squares = first.iter().map(|value| (value - mean).powi(2)).sum::<f32>();
            (squares / all.len() as f32).sqrt()
        };
        let [narrow, pilot, wide] = [1.2, 2.0, 3.0].map(deviation);
        assert!(narrow < pilot && pilot < wide, "{narrow}, {pilot}, {wide}");
        assert!((0.7..1.3).contains(&pilot), "{pilot}");
    }

    #[test]
    fn a_single_style_stays_as_it_is() {
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let one = spread(3.0, &[2.0]);
        assert_eq!(one.draw(0, &mut generator).style, Style(vec![2.0, -2.0]));
    }
}
