//! The appearance of a hospital's slides: its dyes, their strength, and its scanner.
//!
//! The first five hospitals follow differences between real centres (violet, pink, brownish, pale,
//! dark). Every further hospital is a seeded blend of two of them with changes. The appearance does
//! not depend on the class of a tile, because it must not reveal the label.

use super::dice::Dice;
use super::noise::lerp;

/// A hospital's stains and scanner. Optical densities are natural logarithms per unit of dye, for
/// red, green and blue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hospital {
    pub haematoxylin: [f32; 3],
    pub eosin: [f32; 3],
    /// Transmitted light without tissue, 0..1.
    pub white: [f32; 3],
    /// Variation between sections: standard deviation of the logarithm of each dye's amount.
    pub unevenness: f32,
    /// Standard deviation of the optics' blur, pixels.
    pub blur: f32,
    /// Strength of the scanner's own sharpening.
    pub sharpening: f32,
    /// Standard deviation of the sensor's noise, in 0..1.
    pub noise: f32,
    pub gamma: f32,
    pub jpeg_quality: u8,
}

impl Hospital {
    /// Returns hospital `number`. The same seed gives the same hospitals.
    pub(crate) fn new(seed: u64, number: usize) -> Self {
        match PRESETS.get(number) {
            Some(preset) => preset.clone(),
            None => Self::blend(&mut Dice::new(seed, super::stream(number, super::MAX_TILES))),
        }
    }

    fn blend(dice: &mut Dice) -> Self {
        let first = dice.bits() as usize % PRESETS.len();
        let second = (first + 1 + dice.bits() as usize % (PRESETS.len() - 1)) % PRESETS.len();
        let (a, b, t) = (&PRESETS[first], &PRESETS[second], dice.between(0.25, 0.75));
        let mut dye = |a: [f32; 3], b: [f32; 3]| {
            let amount = dice.between(0.7, 1.3);
            std::array::from_fn(|c| lerp(a[c], b[c], t) * amount * dice.between(0.8, 1.2))
        };
        Self {
            haematoxylin: dye(a.haematoxylin, b.haematoxylin),
            eosin: dye(a.eosin, b.eosin),
            white: std::array::from_fn(|c| lerp(a.white[c], b.white[c], t)),
            unevenness: lerp(a.unevenness, b.unevenness, t),
            blur: dice.between(0.5, 1.2),
            sharpening: dice.between(0.0, 0.6),
            noise: dice.between(0.004, 0.014),
            gamma: dice.between(0.9, 1.1),
            jpeg_quality: dice.between(72.0, 95.0) as u8,
        }
    }
}

const PRESETS: [Hospital; 5] = [
    // Pink: blue-black nuclei on salmon, a sharp scanner.
    Hospital {
        haematoxylin: [1.50, 1.62, 1.02],
        eosin: [0.16, 0.74, 0.48],
        white: [0.96, 0.95, 0.96],
        unevenness: 0.09,
        blur: 0.7,
        sharpening: 0.5,
        noise: 0.008,
        gamma: 1.0,
        jpeg_quality: 85,
    },
    // Dark: a thick section, mauve all over, soft.
    Hospital {
        haematoxylin: [1.42, 1.95, 1.35],
        eosin: [0.46, 1.02, 0.66],
        white: [0.90, 0.87, 0.91],
        unevenness: 0.10,
        blur: 1.0,
        sharpening: 0.3,
        noise: 0.006,
        gamma: 1.05,
        jpeg_quality: 80,
    },
    // Violet: vivid blue-violet nuclei, magenta stroma, hard compression.
    Hospital {
        haematoxylin: [1.45, 1.95, 0.45],
        eosin: [0.20, 0.80, 0.16],
        white: [0.95, 0.93, 0.97],
        unevenness: 0.09,
        blur: 0.6,
        sharpening: 0.4,
        noise: 0.010,
        gamma: 0.97,
        jpeg_quality: 75,
    },
    // Brownish: faded blue, so that nuclei go to brown and stroma to beige.
    Hospital {
        haematoxylin: [1.30, 1.82, 1.40],
        eosin: [0.24, 0.60, 0.54],
        white: [0.96, 0.94, 0.90],
        unevenness: 0.10,
        blur: 0.9,
        sharpening: 0.2,
        noise: 0.007,
        gamma: 1.0,
        jpeg_quality: 88,
    },
    // Pale: a thin section, lilac, blurred optics.
    Hospital {
        haematoxylin: [0.92, 1.08, 0.42],
        eosin: [0.13, 0.42, 0.13],
        white: [0.93, 0.92, 0.96],
        unevenness: 0.08,
        blur: 1.1,
        sharpening: 0.0,
        noise: 0.012,
        gamma: 1.0,
        jpeg_quality: 90,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_hospitals_depend_on_the_seed_and_differ_from_each_other() {
        assert_eq!(Hospital::new(1, 9), Hospital::new(1, 9));
        assert_ne!(Hospital::new(1, 9), Hospital::new(2, 9));
        assert_ne!(Hospital::new(1, 9), Hospital::new(1, 10));
    }
}
