//! Random changes of colour that need neither a model nor another tile: the cheap rivals.

use rand_chacha::ChaCha8Rng;

use restain_data::unit as uniform;

/// How far [`color_jitter`] goes: brightness, contrast and saturation by factors of 1 ± this.
const COLOR: f64 = 0.4;
/// And hue, in turns.
const HUE: f64 = 0.1;
/// How far [`gain_and_bias`] goes: a factor of 1 ± this, and an offset of ± this of the range.
const GAIN: f64 = 0.3;
const BIAS: f64 = 0.1;
/// Weights of luminance, ITU-R 601.
const LUMINANCE: [f32; 3] = [0.299, 0.587, 0.114];

type Pixel = [f32; 3];

/// Changes brightness, contrast, saturation and hue in a random order, as torchvision's
/// `ColorJitter(0.4, 0.4, 0.4, 0.1)` does. `tile` and `out` u8 `[H, W, 3]`.
pub(super) fn color_jitter(tile: &[u8], rng: &mut ChaCha8Rng, out: &mut [u8]) {
    let mut pixels: Vec<Pixel> =
        tile.as_chunks::<3>().0.iter().map(|pixel| pixel.map(|v| f32::from(v) / 255.0)).collect();
    let mut steps = [0, 1, 2, 3];
    for last in (1..steps.len()).rev() {
        steps.swap(last, restain_data::below(rng, last as u64 + 1) as usize);
    }
    for step in steps {
        let factor = (1.0 + COLOR * (2.0 * uniform(rng) - 1.0)) as f32;
        let turn = (HUE * (2.0 * uniform(rng) - 1.0)) as f32;
        match step {
            0 => blend(&mut pixels, factor, |_| 0.0),
            1 => {
                let mean = pixels.iter().map(luminance).sum::<f32>() / pixels.len() as f32;
                blend(&mut pixels, factor, |_| mean);
            }
            2 => blend(&mut pixels, factor, luminance),
            _ => pixels.iter_mut().for_each(|pixel| *pixel = turned(*pixel, turn)),
        }
    }
    for (out, pixel) in out.as_chunks_mut::<3>().0.iter_mut().zip(&pixels) {
        *out = pixel.map(|value| (255.0 * value).round() as u8);
    }
}

/// Gives each channel a random gain and a random offset. `tile` and `out` u8 `[H, W, 3]`.
pub(super) fn gain_and_bias(tile: &[u8], rng: &mut ChaCha8Rng, out: &mut [u8]) {
    let maps: [[f64; 2]; 3] = std::array::from_fn(|_| {
        [1.0 + GAIN * (2.0 * uniform(rng) - 1.0), 255.0 * BIAS * (2.0 * uniform(rng) - 1.0)]
    });
    let pairs = out.as_chunks_mut::<3>().0.iter_mut().zip(tile.as_chunks::<3>().0);
    for (out, tile) in pairs {
        for (channel, [gain, bias]) in maps.iter().enumerate() {
            out[channel] = (f64::from(tile[channel]) * gain + bias).round() as u8;
        }
    }
}

/// Moves every pixel to `factor` of its distance from a grey of its own.
fn blend(pixels: &mut [Pixel], factor: f32, grey: impl Fn(&Pixel) -> f32) {
    for pixel in pixels {
        let grey = grey(pixel);
        *pixel = pixel.map(|value| (grey + factor * (value - grey)).clamp(0.0, 1.0));
    }
}

fn luminance(pixel: &Pixel) -> f32 {
    pixel.iter().zip(LUMINANCE).map(|(value, weight)| value * weight).sum()
}

/// Turns the hue of a pixel; 1 is a whole turn.
fn turned(pixel: Pixel, turn: f32) -> Pixel {
    let [most, least] =
        [pixel.iter().copied().fold(0.0, f32::max), pixel.iter().copied().fold(1.0, f32::min)];
    let range = most - least;
    if range == 0.0 {
        return pixel;
    }
    let [red, green, blue] = pixel;
    let sextant = if most == red {
        (green - blue) / range
    } else if most == green {
        2.0 + (blue - red) / range
    } else {
        4.0 + (red - green) / range
    };
    let hue = sextant + 6.0 * turn;
    // Red, green and blue of a hue are one curve, a third of a turn apart (Smith 1978).
    [5.0, 3.0, 1.0].map(|shift: f32| {
        let place = (shift + hue).rem_euclid(6.0);
        most - range * place.min(4.0 - place).clamp(0.0, 1.0)
    })
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn a_hue_turns_through_the_colours_and_comes_back() {
        let near = |a: Pixel, b: Pixel| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(turned([1.0, 0.0, 0.0], 1.0 / 3.0), [0.0, 1.0, 0.0]));
        assert!(near(turned([0.0, 0.0, 1.0], 1.0 / 6.0), [1.0, 0.0, 1.0]));
        for pixel in [[0.9, 0.4, 0.5], [0.3, 0.8, 0.2], [0.2, 0.1, 0.7], [0.5, 0.5, 0.5]] {
            assert!(near(turned(pixel, 0.0), pixel) && near(turned(pixel, 1.0), pixel));
            assert!(near(turned(turned(pixel, 0.07), -0.07), pixel));
        }
    }

    #[test]
    fn colours_change_within_their_range_and_by_the_seed_alone() {
        let tile: Vec<u8> = [200, 120, 180].repeat(16);
        let made = |of: fn(&[u8], &mut ChaCha8Rng, &mut [u8]), seed: u64| {
            let mut out = vec![0; tile.len()];
            of(&tile, &mut ChaCha8Rng::seed_from_u64(seed), &mut out);
            out
        };
        for of in [color_jitter, gain_and_bias] {
            assert_eq!(made(of, 1), made(of, 1));
            let red: Vec<u8> = (0..200).map(|seed| made(of, seed)[0]).collect();
            assert!(red.iter().any(|&v| v < 170) && red.iter().any(|&v| v > 230), "{red:?}");
        }
        let red = (0..500).map(|seed| made(gain_and_bias, seed)[0]);
        assert!(red.clone().min() >= Some(114) && red.max() == Some(255));
    }
}
