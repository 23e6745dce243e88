//! Physical changes of stain and scanner, with the same effect on every tile of a field.
//!
//! A [`Transform`] takes the pixels of one field to those that another laboratory and scanner could
//! have made of the same tissue. It works in optical densities: one monotone curve a channel, then
//! a matrix between the channels, then another white, gamma and focus. Glass has density 0 and
//! becomes the new white, whatever lies beside it. Here the numbers are drawn; [`tensors`] applies
//! them.

pub mod tensors;

use rand_chacha::ChaCha8Rng;

use restain_data::{normal, unit as uniform};
use restain_method::field::{FieldStain, inverse, unit};

/// Knots of a curve: density 0 and the quantiles of a field.
pub const KNOTS: usize = 10;
/// Slopes of a curve between two fields.
const SLOPES: (f64, f64) = (0.25, 2.0);
/// Least density of haematoxylin and eosin in a channel.
const LEAST_DENSITY: f64 = 0.01;
/// Range of white.
const WHITE: (f64, f64) = (0.82, 1.0);
/// Least distance between two knots, and least first one.
const NARROWEST: (f64, f64) = (1e-4, 1e-3);

/// Deviations of [`Transform::free`].
struct Free {
    /// Of the logarithm of the first slope of a curve.
    slope: f64,
    /// Of the logarithm of the change of slope at a knot.
    bend: f64,
    /// Of each entry of the matrix between channels.
    mixing: f64,
}

const FREE: Free = Free { slope: 0.25, bend: 0.1, mixing: 0.06 };

/// One change of stain and scanner.
#[derive(Clone, Debug, PartialEq)]
pub struct Transform {
    /// White of the field that it is applied to, in 0..1: density 0.
    pub white: [f64; 3],
    /// For each channel, densities at which the slope of its curve changes; the first is 0.
    pub knots: [[f64; KNOTS]; 3],
    /// The slope from each knot on.
    pub slopes: [[f64; KNOTS]; 3],
    /// Densities as a row, after the curves, times this.
    pub mixing: [[f64; 3]; 3],
    /// What density 0 becomes, before gamma.
    pub new_white: [f64; 3],
    /// Exponent of each channel.
    pub gamma: [f64; 3],
    /// How far to go to the blur of one pixel; below 0 is sharper.
    pub focus: f64,
}

/// How far from a field transforms are drawn. Deviations are of normal numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranges {
    /// How far to go to the other field: 0 stays, 1 arrives, more goes beyond.
    pub strength: (f64, f64),
    /// Deviation of each entry of the stain matrix.
    pub stains: f64,
    /// Deviation of the logarithm of the amount of each stain.
    pub amounts: f64,
    /// Largest change of the amount of a stain, as a logarithm.
    pub largest_change: f64,
    /// Factor of what is neither haematoxylin nor eosin.
    pub residual: (f64, f64),
    /// Deviations of white, of each channel and of all together.
    pub white: (f64, f64),
    /// Deviations of the logarithm of gamma, of each channel and of all together.
    pub gamma: (f64, f64),
    /// Chance of another focus.
    pub focus_chance: f64,
    /// Range of [`Transform::focus`].
    pub focus: (f64, f64),
}

impl Ranges {
    /// Returns the ranges for [`Transform::beer_lambert`].
    pub fn beer_lambert() -> Self {
        Self {
            strength: (0.4, 1.4),
            stains: 0.05,
            amounts: 0.25,
            largest_change: 1.1,
            residual: (0.4, 1.2),
            white: (0.015, 0.02),
            gamma: (0.04, 0.12),
            focus_chance: 0.3,
            focus: (-0.4, 0.7),
        }
    }

    /// Returns ranges beyond those of [`Self::beer_lambert`], above all for the amounts of the
    /// stains: contrasts that no two fields of a small data set have.
    pub fn wide() -> Self {
        Self {
            strength: (0.3, 1.6),
            stains: 0.09,
            amounts: 0.5,
            largest_change: 1.3,
            white: (0.025, 0.03),
            gamma: (0.07, 0.2),
            ..Self::beer_lambert()
        }
    }

    /// Returns the ranges for [`Transform::quantiles`].
    pub fn quantiles() -> Self {
        Self { strength: (0.5, 1.3), gamma: (0.04, 0.1), ..Self::beer_lambert() }
    }

    /// Returns ranges that go exactly this far to the other field and add nothing at random.
    pub fn exactly(strength: f64) -> Self {
        Self {
            strength: (strength, strength),
            stains: 0.0,
            amounts: 0.0,
            largest_change: 1.1,
            residual: (1.0, 1.0),
            white: (0.0, 0.0),
            gamma: (0.0, 0.0),
            focus_chance: 0.0,
            focus: (0.0, 0.0),
        }
    }
}

impl Transform {
    /// Returns the transform that changes nothing in a field of this white.
    pub fn identity(white: [f64; 3]) -> Self {
        Self {
            white,
            knots: [std::array::from_fn(|k| k as f64 * 0.2); 3],
            slopes: [[1.0; KNOTS]; 3],
            mixing: std::array::from_fn(|r| std::array::from_fn(|c| f64::from(u8::from(r == c)))),
            new_white: white,
            gamma: [1.0; 3],
            focus: 0.0,
        }
    }

    /// Draws a transform of the amounts of the stains of `from` towards those of `to`, and of the
    /// stains themselves.
    pub fn beer_lambert(
        from: &FieldStain,
        to: &FieldStain,
        ranges: &Ranges,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let strength = between(rng, ranges.strength);
        let mut stains = from.stains;
        for (row, stain) in stains.iter_mut().enumerate() {
            for (c, entry) in stain.iter_mut().enumerate() {
                let own = *entry;
                *entry += strength * (to.stains[row][c] - own) + ranges.stains * normal(rng);
                if row < 2 {
                    *entry = entry.max(LEAST_DENSITY.min(own));
                }
            }
            *stain = unit(*stain);
        }
        let mut factors = [1.0; 3];
        for (stain, factor) in factors.iter_mut().take(2).enumerate() {
            let change = strength * (to.amounts[stain] / from.amounts[stain]).ln()
                + ranges.amounts * normal(rng);
            *factor = change.clamp(-ranges.largest_change, ranges.largest_change).exp();
        }
        factors[2] = between(rng, ranges.residual);
        let unmixing = inverse(&from.stains).expect("the stains of a field are three directions");
        let mixing = std::array::from_fn(|r| {
            std::array::from_fn(|c| {
                (0..3).map(|stain| unmixing[r][stain] * factors[stain] * stains[stain][c]).sum()
            })
        });
        Self { mixing, ..Self::scanner(from, to, strength, ranges, rng) }
    }

    /// Draws a transform of the densities of each channel, from the quantiles of `from` towards
    /// those of `to`.
    pub fn quantiles(
        from: &FieldStain,
        to: &FieldStain,
        ranges: &Ranges,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let strength = between(rng, ranges.strength);
        let mut made = Self::scanner(from, to, strength, ranges, rng);
        for channel in 0..3 {
            let (own, other) = (curve(&from.knots[channel]), curve(&to.knots[channel]));
            made.knots[channel] = own;
            made.slopes[channel] = std::array::from_fn(|k| {
                // Beyond the last knot a curve goes on as before it.
                let k = k.min(KNOTS - 2);
                let slope = (other[k + 1] - other[k]) / (own[k + 1] - own[k]);
                1.0 + strength * (slope.clamp(SLOPES.0, SLOPES.1) - 1.0)
            });
        }
        made
    }

    /// Draws a transform towards no other field: channels that mix in density, and a curve of
    /// random slopes for each.
    pub fn free(from: &FieldStain, ranges: &Ranges, rng: &mut ChaCha8Rng) -> Self {
        let mut made = Self::scanner(from, from, 0.0, ranges, rng);
        for channel in 0..3 {
            made.knots[channel] = curve(&from.knots[channel]);
            let mut slope = FREE.slope * normal(rng);
            made.slopes[channel] = std::array::from_fn(|_| {
                slope += FREE.bend * normal(rng);
                slope.exp().clamp(SLOPES.0, SLOPES.1)
            });
        }
        for row in &mut made.mixing {
            row.iter_mut().for_each(|entry| *entry += FREE.mixing * normal(rng));
        }
        made
    }

    /// Draws white, gamma and focus; the stains stay the same.
    fn scanner(
        from: &FieldStain,
        to: &FieldStain,
        strength: f64,
        ranges: &Ranges,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let common = ranges.white.1 * normal(rng);
        let new_white = std::array::from_fn(|c| {
            let towards = from.white[c] + strength.min(1.0) * (to.white[c] - from.white[c]);
            let white = towards + ranges.white.0 * normal(rng) + common;
            white.clamp(WHITE.0.min(from.white[c]), WHITE.1)
        });
        let common = ranges.gamma.1 * normal(rng);
        let gamma = std::array::from_fn(|_| (common + ranges.gamma.0 * normal(rng)).exp());
        let is_refocused = uniform(rng) < ranges.focus_chance;
        let focus = between(rng, ranges.focus);
        Self {
            new_white,
            gamma,
            focus: if is_refocused { focus } else { 0.0 },
            ..Self::identity(from.white)
        }
    }
}

/// Returns the knots of a field's curve, strictly rising from 0.
fn curve(knots: &[f64; KNOTS - 1]) -> [f64; KNOTS] {
    let mut highest = 0.0;
    std::array::from_fn(|k| {
        if k == 0 {
            return 0.0;
        }
        highest = knots[k - 1].max(NARROWEST.1).max(highest + NARROWEST.0);
        highest
    })
}

fn between(rng: &mut ChaCha8Rng, (low, high): (f64, f64)) -> f64 {
    low + (high - low) * uniform(rng)
}
