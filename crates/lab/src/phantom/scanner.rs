//! From dye to pixels: Beer and Lambert's law, then what a scanner does to the light.
//!
//! `light = white · exp(−(haematoxylin · h + eosin · e))` per channel, with the hospital's optical
//! densities h and e (Ruifrok and Johnston 2001); then blur, sharpening, noise, gamma and JPEG, in
//! the order in which they happen.

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageFormat};

use super::dice::Dice;
use super::hospital::Hospital;
use super::section::Section;

/// Pixels a section must have more of on every side than the scan made of it, so that blur never
/// sees a border.
pub(super) const PADDING: usize = 6;

/// Scans the middle of a section: u8 `[side, side, 3]`, where `side = section.side − 2 · PADDING`.
pub(super) fn scan(section: &Section, hospital: &Hospital, dice: &mut Dice) -> Vec<u8> {
    let mut amount = || dice.normal(0.0, hospital.unevenness).exp();
    let (haematoxylin, eosin) = (
        hospital.haematoxylin.map({
            let a = amount();
            move |d| d * a
        }),
        hospital.eosin.map({
            let a = amount();
            move |d| d * a
        }),
    );
    let side = section.side - 2 * PADDING;
    let mut pixels = vec![0u8; side * side * 3];
    let kernel = gaussian(hospital.blur);
    let wide = gaussian(1.6);
    for channel in 0..3 {
        let absorbed = section
            .haematoxylin
            .iter()
            .zip(&section.eosin)
            .map(|(h, e)| h * haematoxylin[channel] + e * eosin[channel]);
        let light: Vec<f32> =
            absorbed.map(|density| hospital.white[channel] * (-density).exp()).collect();
        let seen = blur(&light, section.side, &kernel);
        let softer = blur(&seen, section.side, &wide);
        for (at, pixel) in pixels.iter_mut().skip(channel).step_by(3).enumerate() {
            let from = (at / side + PADDING) * section.side + at % side + PADDING;
            let sharp = seen[from] + hospital.sharpening * (seen[from] - softer[from]);
            let value =
                (sharp + dice.normal(0.0, hospital.noise)).clamp(0.0, 1.0).powf(hospital.gamma);
            *pixel = (value * 255.0).round() as u8;
        }
    }
    compress(&pixels, side, hospital.jpeg_quality)
}

/// Once through JPEG and back, as every pathology slide has been.
fn compress(pixels: &[u8], side: usize, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(pixels, side as u32, side as u32, ExtendedColorType::Rgb8)
        .expect("an RGB tile within JPEG's sizes, written to memory");
    image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg)
        .expect("what was just encoded")
        .into_rgb8()
        .into_raw()
}

/// A Gaussian's weights from its middle outwards, out to [`PADDING`]/2 pixels at most.
fn gaussian(deviation: f32) -> Vec<f32> {
    let reach = (3.0 * deviation).ceil().min((PADDING / 2) as f32) as usize;
    let weights: Vec<f32> =
        (0..=reach).map(|i| (-0.5 * (i as f32 / deviation).powi(2)).exp()).collect();
    let total = 2.0 * weights.iter().sum::<f32>() - weights[0];
    weights.iter().map(|w| w / total).collect()
}

/// Separable blur of `[side, side]`; the border repeats.
fn blur(values: &[f32], side: usize, kernel: &[f32]) -> Vec<f32> {
    let pass = |values: &[f32], step: usize| -> Vec<f32> {
        (0..values.len())
            .map(|at| {
                let place = if step == 1 { at % side } else { at / side };
                let arms = kernel.iter().enumerate().skip(1).map(|(i, weight)| {
                    let (before, after) = (i.min(place), i.min(side - 1 - place));
                    weight * (values[at - before * step] + values[at + after * step])
                });
                kernel[0] * values[at] + arms.sum::<f32>()
            })
            .collect()
    };
    pass(&pass(values, 1), side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_keeps_what_is_flat_and_spreads_a_point() {
        let kernel = gaussian(1.0);
        assert!(blur(&[0.5; 81], 9, &kernel).iter().all(|v| (v - 0.5).abs() < 1e-6));
        let mut point = vec![0.0; 81];
        point[40] = 1.0;
        let spread = blur(&point, 9, &kernel);
        assert!((spread.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!((spread[39] - spread[31]).abs() < 1e-7 && spread[40] > spread[39]);
    }

    #[test]
    fn no_dye_is_white_and_more_dye_is_darker() {
        let mut hospital = Hospital::new(0, 0);
        (hospital.noise, hospital.jpeg_quality) = (0.0, 100);
        let mean = |h: f32| {
            let section = Section { side: 32, haematoxylin: vec![h; 1024], eosin: vec![0.0; 1024] };
            let pixels = scan(&section, &hospital, &mut Dice::new(0, 0));
            pixels.iter().map(|&v| v as f32).sum::<f32>() / pixels.len() as f32
        };
        assert!(mean(0.0) > 240.0);
        assert!(mean(0.5) < 200.0 && mean(1.0) < mean(0.5));
    }
}
