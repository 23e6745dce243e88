//! Failure cases: tiles that are white, marked with ink, or out of focus. The figures describe the
//! variants; there are no thresholds.
//!
//! The tiles are derived from a held-out tile by a fixed formula: small data sets have no real
//! ones, and only for derived ones it is known where the ink is.

use anyhow::Result;
use image::{RgbImage, imageops};
use rayon::prelude::*;

use crate::encodings::{Encoded, Model};
use crate::evaluate::pairs::mean;
use crate::evaluate::report::Failure;
use crate::evaluate::technique::{Reference, draws};
use crate::evaluate::{Domain, EvaluateArgs};
use crate::phase::Phase;
use restain_method::metrics::ssim;

/// Streams of the seed that nothing else uses.
const STREAM: u64 = 1 << 24;
/// Opacity of ink.
const OPACITY: f64 = 0.85;

/// A kind of spoiled tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    White,
    GreenInk,
    BlueInk,
    BlackInk,
    Blurred,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::White, Self::GreenInk, Self::BlueInk, Self::BlackInk, Self::Blurred];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::White => "white",
            Self::GreenInk => "green ink",
            Self::BlueInk => "blue ink",
            Self::BlackInk => "black ink",
            Self::Blurred => "blurred",
        }
    }

    fn ink(self) -> Option<[u8; 3]> {
        match self {
            Self::GreenInk => Some([20, 130, 70]),
            Self::BlueInk => Some([30, 60, 170]),
            Self::BlackInk => Some([25, 25, 30]),
            Self::White | Self::Blurred => None,
        }
    }

    /// Spoils a tile: u8 `[side, side, 3]` → the same shape.
    pub(super) fn spoil(self, tile: &[u8], side: usize) -> Vec<u8> {
        match self.ink() {
            Some(ink) => {
                let pixels = tile.as_chunks::<3>().0.iter().zip(stroke(side));
                let over = |level: u8, ink: u8| {
                    (f64::from(level) * (1.0 - OPACITY) + f64::from(ink) * OPACITY).round() as u8
                };
                pixels
                    .flat_map(|(pixel, inked)| {
                        std::array::from_fn::<u8, 3, _>(|c| {
                            if inked { over(pixel[c], ink[c]) } else { pixel[c] }
                        })
                    })
                    .collect()
            }
            // Almost white, with a sixteenth of the tissue's contrast, so that pixels still differ.
            None if self == Self::White => {
                tile.iter().map(|level| 248 - (255 - level) / 16).collect()
            }
            None => {
                let image = RgbImage::from_raw(side as u32, side as u32, tile.to_vec())
                    .expect("a tile's bytes");
                imageops::blur(&image, side as f32 / 32.0).into_raw()
            }
        }
    }
}

/// Iterates over a tile's pixels, row by row: true under a pen stroke, a wave from edge to edge, an
/// eighth of the tile wide.
fn stroke(side: usize) -> impl Iterator<Item = bool> {
    let unit = side as f64;
    (0..side * side).map(move |i| {
        let (x, y) = ((i % side) as f64, (i / side) as f64);
        let middle = unit * (0.5 + 0.2 * (x / unit * std::f64::consts::TAU).sin());
        (y - middle).abs() <= unit / 16.0
    })
}

/// Returns the tile of a domain with most tissue, which is spoiled and whose style the domain
/// before uses.
pub(super) fn showpiece(model: &Model, domain: &Domain) -> usize {
    let tissue = |&index: &usize| {
        model.tissue(&domain.tiles[index].tile).into_iter().filter(|&tissue| tissue).count()
    };
    (0..domain.tiles.len()).max_by_key(tissue).expect("a domain has tiles")
}

/// Measures every technique on every kind of spoiled tile: means over domains, each domain's tile
/// in the style of the next. Empty with one domain.
///
/// # Errors
/// If the encoder fails.
pub(super) fn measure(
    model: &mut Model,
    domains: &[Domain],
    args: &EvaluateArgs,
) -> Result<Vec<Failure>> {
    if domains.len() < 2 {
        return Ok(Vec::new());
    }
    let shown: Vec<usize> = domains.iter().map(|domain| showpiece(model, domain)).collect();
    let references: Vec<Reference> = (1..=domains.len())
        .map(|d| d % domains.len())
        .map(|d| Reference::of(&domains[d], &[shown[d]]))
        .collect();
    let clean: Vec<&Encoded> =
        domains.iter().zip(&shown).map(|(domain, &tile)| &domain.tiles[tile]).collect();
    let side = model.synth.geometry().image_size();
    let mut failures = Vec::new();
    let phase = Phase::start("spoiled tiles tried", Kind::ALL.len());
    for kind in Kind::ALL {
        phase.advance(1);
        let spoiled =
            model.encode(clean.iter().map(|clean| kind.spoil(&clean.tile, side)).collect())?;
        for &method in &args.methods {
            let cases: Vec<Case> = (0..domains.len())
                .into_par_iter()
                .map(|d| {
                    let made = |content: &Encoded| {
                        method.apply(
                            &model.synth,
                            content,
                            &references[d],
                            &mut draws(args.seed, STREAM, d),
                        )
                    };
                    Case {
                        before: &spoiled[d].tile,
                        after: made(&spoiled[d]),
                        of_clean: made(clean[d]),
                        side,
                    }
                })
                .collect();
            let over = |of: fn(&Case) -> f64| mean(cases.iter().map(of));
            failures.push(Failure {
                kind: kind.name().to_owned(),
                method,
                clipped: over(|case| clipped(&case.after)),
                clipped_before: over(|case| clipped(case.before)),
                ssim: over(|case| ssim(case.before, &case.after, case.side, case.side)),
                level_change: over(|case| level(&case.after) - level(case.before)),
                ink_in_place: kind.ink().map(|_| over(|case| case.ink_in_place())),
                ink_change: kind.ink().map(|_| over(|case| case.ink_change())),
            });
        }
    }
    Ok(failures)
}

/// A spoiled tile, its variant, and the variant of the unspoiled tile, u8 `[side, side, 3]` each.
struct Case<'a> {
    before: &'a [u8],
    after: Vec<u8>,
    of_clean: Vec<u8>,
    side: usize,
}

impl Case<'_> {
    /// Returns the share of the change due to the ink that lies under the stroke; NaN without any
    /// change.
    fn ink_in_place(&self) -> f64 {
        let change = |(a, b): (&[u8; 3], &[u8; 3])| {
            (0..3).map(|c| f64::from(a[c].abs_diff(b[c]))).sum::<f64>()
        };
        let changes: Vec<f64> = self
            .after
            .as_chunks::<3>()
            .0
            .iter()
            .zip(self.of_clean.as_chunks::<3>().0)
            .map(change)
            .collect();
        let inside: f64 = changes
            .iter()
            .zip(stroke(self.side))
            .filter(|(_, inked)| *inked)
            .map(|(change, _)| change)
            .sum();
        inside / changes.iter().sum::<f64>()
    }

    /// Returns the mean absolute change of the values under the stroke.
    fn ink_change(&self) -> f64 {
        let pixels = self
            .after
            .as_chunks::<3>()
            .0
            .iter()
            .zip(self.before.as_chunks::<3>().0)
            .zip(stroke(self.side));
        mean(
            pixels
                .filter(|(_, inked)| *inked)
                .flat_map(|((a, b), _)| (0..3).map(|c| f64::from(a[c].abs_diff(b[c])))),
        )
    }
}

fn clipped(tile: &[u8]) -> f64 {
    mean(tile.iter().map(|&level| f64::from(u8::from(level == 0 || level == 255))))
}

fn level(tile: &[u8]) -> f64 {
    mean(tile.iter().map(|&level| f64::from(level)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ink_lies_under_the_stroke_and_nowhere_else() {
        let tile: Vec<u8> = (0..32 * 32 * 3).map(|i| (120 + i % 90) as u8).collect();
        let inked = Kind::BlueInk.spoil(&tile, 32);
        for ((before, after), under) in
            tile.as_chunks::<3>().0.iter().zip(inked.as_chunks::<3>().0).zip(stroke(32))
        {
            assert_eq!(before != after, under);
        }
        let share = stroke(32).filter(|inked| *inked).count() as f64 / 1024.0;
        assert!((0.1..0.2).contains(&share), "{share}");
        let case = Case { before: &inked, after: inked.clone(), of_clean: tile.clone(), side: 32 };
        assert_eq!((case.ink_in_place(), case.ink_change()), (1.0, 0.0));
    }

    #[test]
    fn white_is_nearly_white_and_blur_keeps_the_mean() {
        let tile: Vec<u8> = (0..32 * 32 * 3).map(|i| (i * 7 % 256) as u8).collect();
        let white = Kind::White.spoil(&tile, 32);
        assert!(white.iter().all(|level| (233..=248).contains(level)));
        let blurred = Kind::Blurred.spoil(&tile, 32);
        assert!((level(&blurred) - level(&tile)).abs() < 2.0 && blurred != tile);
    }
}
