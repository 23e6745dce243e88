//! What happens to a tile between the file and the network: a random resized crop, then the published augmentations
//! (elastic and grid distortion, flips, rotation; colour, blur, noise, compression), each with its own chance.

use std::io::Cursor;

use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, RgbImage};
use rand_chacha::ChaCha8Rng;

use crate::train::dataset::{below, normal, unit};

#[derive(Clone, Copy, Debug)]
pub struct AugmentConfig {
    /// Side of the tiles that come out, pixels.
    pub tile: u32,
    /// Area of a crop from an image that is itself one tile, as a share of that image.
    pub tile_scale: (f64, f64),
    /// Area of a crop from a larger field, in tiles.
    pub field_scale: (f64, f64),
    /// Chance of each augmentation.
    pub probability: f64,
}

impl AugmentConfig {
    /// The published chances and crop; fields are cut at about their own resolution.
    pub fn published(tile: u32) -> Self {
        Self { tile, tile_scale: (0.08, 1.0), field_scale: (0.5, 1.5), probability: 0.1 }
    }
}

/// One training tile out of an image: [tile, tile, 3].
pub fn training_tile(image: &RgbImage, config: &AugmentConfig, rng: &mut ChaCha8Rng) -> RgbImage {
    let mut tile = random_resized_crop(image, config, rng);
    let steps: [fn(&mut RgbImage, &mut ChaCha8Rng); 9] = [elastic, grid_distortion, flip, rotate, color, blur, noise, compress, gamma];
    for step in steps {
        if unit(rng) < config.probability {
            step(&mut tile, rng);
        }
    }
    tile
}

fn between(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(rng)
}

fn random_resized_crop(image: &RgbImage, config: &AugmentConfig, rng: &mut ChaCha8Rng) -> RgbImage {
    let (width, height) = image.dimensions();
    let is_field = width >= 2 * config.tile && height >= 2 * config.tile;
    let area = if is_field {
        between(rng, config.field_scale.0, config.field_scale.1) * (config.tile * config.tile) as f64
    } else {
        between(rng, config.tile_scale.0, config.tile_scale.1) * width as f64 * height as f64
    };
    let ratio = between(rng, (3.0f64 / 4.0).ln(), (4.0f64 / 3.0).ln()).exp();
    let crop_width = ((area * ratio).sqrt().round() as u32).clamp(1, width);
    let crop_height = ((area / ratio).sqrt().round() as u32).clamp(1, height);
    let x = below(rng, (width - crop_width + 1) as u64) as u32;
    let y = below(rng, (height - crop_height + 1) as u64) as u32;
    let crop = imageops::crop_imm(image, x, y, crop_width, crop_height).to_image();
    imageops::resize(&crop, config.tile, config.tile, FilterType::Triangle)
}

fn flip(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    match below(rng, 3) {
        0 => imageops::flip_horizontal_in_place(tile),
        1 => imageops::flip_vertical_in_place(tile),
        _ => imageops::rotate180_in_place(tile),
    }
}

/// A quarter turn, or any angle with mirrored borders.
fn rotate(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    let angle = if unit(rng) < 0.5 { std::f64::consts::FRAC_PI_2 } else { between(rng, -std::f64::consts::PI, std::f64::consts::PI) };
    let centre = (tile.width() - 1) as f64 / 2.0;
    let (sin, cos) = angle.sin_cos();
    remap(tile, |x, y| (centre + cos * (x - centre) - sin * (y - centre), centre + sin * (x - centre) + cos * (y - centre)));
}

/// A smooth random displacement: a coarse grid of shifts, interpolated.
fn elastic(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    displace(tile, 5, 0.03, rng);
}

/// The same on a finer grid with smaller shifts.
fn grid_distortion(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    displace(tile, 9, 0.015, rng);
}

fn displace(tile: &mut RgbImage, nodes: usize, amount: f64, rng: &mut ChaCha8Rng) {
    let side = tile.width() as f64;
    let shifts: Vec<(f64, f64)> = (0..nodes * nodes).map(|_| (normal(rng) * amount * side, normal(rng) * amount * side)).collect();
    let step = (nodes - 1) as f64 / side;
    remap(tile, |x, y| {
        let (column, row) = (x * step, y * step);
        let (i, j) = ((column as usize).min(nodes - 2), (row as usize).min(nodes - 2));
        let (u, v) = (column - i as f64, row - j as f64);
        let at = |i: usize, j: usize| shifts[j * nodes + i];
        let mix = |a: (f64, f64), b: (f64, f64), t: f64| (a.0 + (b.0 - a.0) * t, a.1 + (b.1 - a.1) * t);
        let (dx, dy) = mix(mix(at(i, j), at(i + 1, j), u), mix(at(i, j + 1), at(i + 1, j + 1), u), v);
        (x + dx, y + dy)
    });
}

/// Every pixel fetched, bilinearly, from where `source` says; coordinates outside are mirrored.
fn remap(tile: &mut RgbImage, source: impl Fn(f64, f64) -> (f64, f64)) {
    let from = tile.clone();
    let last = (from.width() - 1) as f64;
    let mirror = |t: f64| last - ((t.rem_euclid(2.0 * last)) - last).abs();
    for (x, y, pixel) in tile.enumerate_pixels_mut() {
        let (u, v) = source(x as f64, y as f64);
        let (u, v) = (mirror(u) as f32, mirror(v) as f32);
        if let Some(value) = imageops::interpolate_bilinear(&from, u, v) {
            *pixel = value;
        }
    }
}

/// Brightness, contrast, saturation and a per-channel gain, each by at most a tenth or two.
fn color(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    let (brightness, contrast, saturation) = (between(rng, 0.85, 1.15), between(rng, 0.8, 1.2), between(rng, 0.7, 1.3));
    let gain: [f64; 3] = std::array::from_fn(|_| between(rng, 0.92, 1.08));
    for pixel in tile.pixels_mut() {
        let grey = 0.299 * pixel[0] as f64 + 0.587 * pixel[1] as f64 + 0.114 * pixel[2] as f64;
        for (value, gain) in pixel.0.iter_mut().zip(gain) {
            let saturated = grey + (*value as f64 - grey) * saturation;
            *value = ((saturated * gain * brightness - 128.0) * contrast + 128.0).round() as u8;
        }
    }
}

fn gamma(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    let exponent = between(rng, 0.8, 1.25);
    let table: Vec<u8> = (0..256).map(|v| (255.0 * (v as f64 / 255.0).powf(exponent)).round() as u8).collect();
    tile.iter_mut().for_each(|value| *value = table[*value as usize]);
}

fn blur(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    *tile = imageops::blur(tile, between(rng, 0.3, 1.2) as f32);
}

fn noise(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    let deviation = between(rng, 1.0, 8.0);
    tile.iter_mut().for_each(|value| *value = (*value as f64 + normal(rng) * deviation).round() as u8);
}

fn compress(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    let quality = 50 + below(rng, 46) as u8;
    let mut bytes = Vec::new();
    let coded = JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(tile);
    let decoded = coded.and_then(|()| {
        let decoder = JpegDecoder::new(Cursor::new(&bytes))?;
        debug_assert_eq!(decoder.dimensions(), tile.dimensions());
        DynamicImage::from_decoder(decoder)
    });
    *tile = decoded.expect("what was just encoded in memory decodes").into_rgb8();
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn checkered(side: u32) -> RgbImage {
        RgbImage::from_fn(side, side, |x, y| image::Rgb([(x * 3) as u8, (y * 3) as u8, if (x / 4 + y / 4) % 2 == 0 { 40 } else { 200 }]))
    }

    #[test]
    fn a_training_tile_has_the_asked_size_and_depends_on_the_generator_alone() {
        let config = AugmentConfig { probability: 1.0, ..AugmentConfig::published(32) };
        for side in [20, 32, 200] {
            let cut = |seed| training_tile(&checkered(side), &config, &mut ChaCha8Rng::seed_from_u64(seed));
            assert_eq!(cut(1).dimensions(), (32, 32));
            assert_eq!(cut(1), cut(1));
            assert_ne!(cut(1), cut(2));
        }
    }

    #[test]
    fn without_augmentation_a_whole_tile_comes_through_unchanged() {
        let config = AugmentConfig { tile: 32, tile_scale: (1.0, 1.0), field_scale: (1.0, 1.0), probability: 0.0 };
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mean = |tile: &RgbImage| tile.iter().map(|&v| v as f64).sum::<f64>() / tile.len() as f64;
        let whole = checkered(32);
        assert!((mean(&training_tile(&whole, &config, &mut rng)) - mean(&whole)).abs() < 3.0);
    }

    #[test]
    fn a_quarter_turn_moves_corners_to_corners() {
        let mut tile = checkered(9);
        let before = tile.clone();
        let centre = 4.0;
        remap(&mut tile, |x, y| (centre - (y - centre), centre + (x - centre)));
        assert_eq!(tile.get_pixel(0, 0), before.get_pixel(8, 0));
        assert_eq!(tile.get_pixel(4, 4), before.get_pixel(4, 4));
    }
}
