//! `style.spread`: styles drawn wider, or narrower, than the bank holds them, out of those that a
//! request leaves to choose from. The rule is `restain_method::spread`.

use rand_chacha::ChaCha8Rng;

use super::source::Source;
use crate::serve::styles::Offer;
use restain_method::spread::{self, Drawn};

/// The styles that a request leaves to choose from, and how wide they are drawn.
pub struct Spread {
    /// Places in the bank.
    styles: Vec<usize>,
    rule: spread::Spread,
}

impl Spread {
    /// Nothing at a spread of 1, or where styles are not of the bank.
    pub fn new(bank: &Offer, source: &Source, spread: f32) -> Option<Self> {
        let Source::Bank(groups) = source else { return None };
        if spread == 1.0 {
            return None;
        }
        let styles = groups.concat();
        let entries = styles.iter().map(|&style| bank.style(style));
        let rule = spread::Spread::new(entries.map(|entry| (&entry.style, entry.source)), spread);
        Some(Self { styles, rule })
    }

    /// How wide styles are drawn.
    pub fn width(&self) -> f32 {
        self.rule.width()
    }

    /// Draws the style that takes the place of a chosen one.
    ///
    /// # Panics
    /// When the request does not leave it to choose from.
    pub fn draw(&self, chosen: usize, generator: &mut ChaCha8Rng) -> Drawn {
        let place = self.styles.iter().position(|&style| style == chosen);
        self.rule.draw(place.expect("one of the styles of the request"), generator)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use restain_bundle::StyleBank;
    use restain_method::Style;
    use restain_method::color::ChannelStats;

    fn bank(values: &[f32]) -> Offer {
        let mut bank = StyleBank::default();
        for &value in values {
            let source = ChannelStats { mean: [0.4; 3], std: [0.1; 3] };
            bank.push("a", Style(vec![value, -value]), source);
        }
        Offer::of(bank)
    }

    #[test]
    fn a_spread_of_one_changes_nothing() {
        assert!(Spread::new(&bank(&[2.0]), &Source::Bank(vec![vec![0]]), 1.0).is_none());
        assert!(Spread::new(&bank(&[2.0]), &Source::Own, 2.0).is_none());
    }

    #[test]
    fn the_mean_is_that_of_the_styles_to_choose_from_and_not_of_the_bank() {
        let some = Source::Bank(vec![vec![3], vec![1]]);
        let mean = Spread::new(&bank(&[100.0, 2.0, 50.0, 6.0]), &some, 0.0).unwrap();
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(mean.draw(1, &mut generator).style, Style(vec![4.0, -4.0]));
        let half = Spread::new(&bank(&[100.0, 2.0, 50.0, 6.0]), &some, 0.5).unwrap();
        assert_eq!(half.draw(3, &mut generator).style, Style(vec![5.0, -5.0]));
    }
}
