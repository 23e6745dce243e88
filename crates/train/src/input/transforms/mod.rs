//! The random transforms of a training tile: a random resized crop, then the published
//! augmentations (elastic and grid distortion, flips, rotation, colour, blur, noise, compression,
//! gamma), each applied with a probability.
//!
//! Changing the stain of a tile is left to the recipes.

#[cfg(test)]
mod tests;

use std::io::Cursor;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::codecs::jpeg::JpegDecoder;
use image::imageops;
use image::{DynamicImage, RgbImage};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use restain_data::{below, normal, unit};

/// How to make a training tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransformConfig {
    /// Side of the resulting tiles, pixels.
    pub tile: u32,
    /// Range of the area of a crop from an image of about one tile, as a share of that image.
    pub tile_scale: (f64, f64),
    /// Range of the area of a crop from a larger field, in tiles.
    pub field_scale: (f64, f64),
    /// Probability of each augmentation.
    pub probability: f64,
}

impl TransformConfig {
    /// Returns the published probability and crop; fields are cropped at about their own
    /// resolution.
    pub(crate) fn published(tile: u32) -> Self {
        Self { tile, tile_scale: (0.08, 1.0), field_scale: (0.5, 1.5), probability: 0.1 }
    }
}

type Step = fn(&mut RgbImage, &mut ChaCha8Rng);

/// The augmentations, in the order in which they are applied.
pub(crate) const STEPS: [(&str, Step); 9] = [
    ("elastic", elastic),
    ("grid distortion", grid_distortion),
    ("flip", flip),
    ("rotate", rotate),
    ("color", color),
    ("blur", blur),
    ("noise", noise),
    ("compression", compress),
    ("gamma", gamma),
];

/// Makes a training tile, u8 [tile, tile, 3], from an image.
pub(crate) fn training_tile(
    image: &RgbImage,
    config: &TransformConfig,
    rng: &mut ChaCha8Rng,
) -> RgbImage {
    let mut tile = random_resized_crop(image, config, rng);
    for (_, step) in STEPS {
        if unit(rng) < config.probability {
            step(&mut tile, rng);
        }
    }
    tile
}

fn between(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(rng)
}

/// Crops a random area with an aspect ratio from 3:4 to 4:3 at a random place, and resizes it
/// (Szegedy et al. 2015).
fn random_resized_crop(
    image: &RgbImage,
    config: &TransformConfig,
    rng: &mut ChaCha8Rng,
) -> RgbImage {
    let (width, height) = image.dimensions();
    let is_field = width >= 2 * config.tile && height >= 2 * config.tile;
    let area = if is_field {
        between(rng, config.field_scale.0, config.field_scale.1)
            * (config.tile * config.tile) as f64
    } else {
        between(rng, config.tile_scale.0, config.tile_scale.1) * width as f64 * height as f64
    };
    let ratio = between(rng, (3.0f64 / 4.0).ln(), (4.0f64 / 3.0).ln()).exp();
    let crop_width = ((area * ratio).sqrt().round() as u32).clamp(1, width);
    let crop_height = ((area / ratio).sqrt().round() as u32).clamp(1, height);
    let x = below(rng, (width - crop_width + 1) as u64) as u32;
    let y = below(rng, (height - crop_height + 1) as u64) as u32;
    resized(image, [x, y, crop_width, crop_height], config.tile)
}

/// Resizes part [x, y, width, height] of an image to a square, with a triangle filter.
pub(crate) fn resized(image: &RgbImage, [x, y, width, height]: [u32; 4], side: u32) -> RgbImage {
    if [width, height] == [side, side] {
        return imageops::crop_imm(image, x, y, side, side).to_image();
    }
    let from = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3)
        .expect("an RgbImage is width × height × 3");
    let mut to = Image::new(side, side, PixelType::U8x3);
    let [x, y, width, height] = [x, y, width, height].map(f64::from);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(x, y, width, height);
    Resizer::new().resize(&from, &mut to, &options).expect("the crop lies within the image");
    RgbImage::from_raw(side, side, to.into_vec()).expect("side × side × 3 bytes")
}

/// Flips horizontally or vertically, or rotates by 180°.
fn flip(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    match below(rng, 3) {
        0 => imageops::flip_horizontal_in_place(tile),
        1 => imageops::flip_vertical_in_place(tile),
        _ => imageops::rotate180_in_place(tile),
    }
}

/// Rotates by 90° or, as often, by any angle with mirrored borders.
fn rotate(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    if unit(rng) < 0.5 {
        *tile = imageops::rotate270(tile);
        return;
    }
    let (sin, cos) = between(rng, -std::f64::consts::PI, std::f64::consts::PI).sin_cos();
    let (sin, cos, centre) = (sin as f32, cos as f32, (tile.width() - 1) as f32 / 2.0);
    remap(tile, |x, y| {
        let (x, y) = (x - centre, y - centre);
        (centre + cos * x - sin * y, centre + sin * x + cos * y)
    });
}

/// Applies a smooth random displacement: a coarse grid of shifts, interpolated.
fn elastic(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    displace(tile, 5, 0.03, rng);
}

/// Applies a displacement on a finer grid with smaller shifts.
fn grid_distortion(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    displace(tile, 9, 0.015, rng);
}

/// Displaces pixels by shifts on a grid of `nodes` × `nodes`, normal with a standard deviation of
/// `amount` tiles, interpolated bilinearly.
fn displace(tile: &mut RgbImage, nodes: usize, amount: f64, rng: &mut ChaCha8Rng) {
    let side = tile.width() as usize;
    let mut shift = || (normal(rng) * amount * side as f64) as f32;
    let shifts: Vec<[f32; 2]> = (0..nodes * nodes).map(|_| [shift(), shift()]).collect();
    // The node before a pixel, and how far it is on the way to the next.
    let between: Vec<(usize, f32)> = (0..side)
        .map(|at| at as f32 * (nodes - 1) as f32 / side as f32)
        .map(|at| ((at as usize).min(nodes - 2), at - (at as usize).min(nodes - 2) as f32))
        .collect();
    let mix =
        |a: [f32; 2], b: [f32; 2], t: f32| [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t];
    let mut field = Vec::with_capacity(side * side);
    for &(j, v) in &between {
        let row: Vec<[f32; 2]> = (0..nodes)
            .map(|i| mix(shifts[j * nodes + i], shifts[(j + 1) * nodes + i], v))
            .collect();
        field.extend(between.iter().map(|&(i, u)| mix(row[i], row[i + 1], u)));
    }
    let mut field = field.into_iter();
    remap(tile, |x, y| {
        let [dx, dy] = field.next().expect("one for each pixel");
        (x + dx, y + dy)
    });
}

/// Fetches every pixel, row by row, from the coordinates that `source` returns for it, interpolated
/// bilinearly; coordinates outside are mirrored.
fn remap(tile: &mut RgbImage, mut source: impl FnMut(f32, f32) -> (f32, f32)) {
    let from = tile.clone();
    let (width, last) = (from.width() as usize, from.width() as usize - 1);
    let end = last as f32;
    let mirror = |t: f32| {
        if (0.0..=end).contains(&t) { t } else { end - (t.rem_euclid(2.0 * end) - end).abs() }
    };
    // 8 bits of a fraction suffice for 8 bits of colour.
    let place = |t: f32| {
        let fixed = (mirror(t) * 256.0) as usize;
        ((fixed >> 8).min(last), (fixed & 255) as u32)
    };
    let from = from.as_raw();
    let places = (0..=last).flat_map(|y| (0..width).map(move |x| (x as f32, y as f32)));
    for (pixel, (x, y)) in tile.chunks_exact_mut(3).zip(places) {
        let (u, v) = source(x, y);
        let ((x, right), (y, down)) = (place(u), place(v));
        let (row, next_row) = (y * width, (y + 1).min(last) * width);
        let (column, next) = (x, (x + 1).min(last));
        let [a, b, c, d] = [row + column, row + next, next_row + column, next_row + next]
            .map(|at| &from[at * 3..][..3]);
        for channel in 0..3 {
            let value = |corner: &[u8]| u32::from(corner[channel]);
            let above = value(a) * (256 - right) + value(b) * right;
            let under = value(c) * (256 - right) + value(d) * right;
            pixel[channel] = ((above * (256 - down) + under * down + (1 << 15)) >> 16) as u8;
        }
    }
}

/// Changes brightness, contrast, saturation and the gain of each channel, by at most 8 to 30 %.
fn color(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    let [brightness, contrast, saturation] =
        [(0.85, 1.15), (0.8, 1.2), (0.7, 1.3)].map(|(low, high)| between(rng, low, high) as f32);
    let gain: [f32; 3] =
        std::array::from_fn(|_| between(rng, 0.92, 1.08) as f32 * brightness * contrast);
    let offset = 128.0 - 128.0 * contrast;
    for pixel in tile.chunks_exact_mut(3) {
        let grey =
            0.299 * f32::from(pixel[0]) + 0.587 * f32::from(pixel[1]) + 0.114 * f32::from(pixel[2]);
        for (value, gain) in pixel.iter_mut().zip(gain) {
            *value = nearest((grey + (f32::from(*value) - grey) * saturation) * gain + offset);
        }
    }
}

/// Rounds to 0..=255. `f32::round` would be a function call with the processor's baseline
/// instructions.
fn nearest(value: f32) -> u8 {
    (value + 0.5) as u8
}

/// Raises pixels in 0..1 to a power from 0.8 to 1.25.
fn gamma(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    let exponent = between(rng, 0.8, 1.25);
    let table: Vec<u8> =
        (0..256).map(|v| (255.0 * (v as f64 / 255.0).powf(exponent)).round() as u8).collect();
    tile.iter_mut().for_each(|value| *value = table[*value as usize]);
}

/// Blurs with a Gaussian of 0.3 to 1.2 pixels.
fn blur(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    *tile = imageops::blur(tile, between(rng, 0.3, 1.2) as f32);
}

/// Adds approximately normal noise. The sum of eight uniform bytes replaces a normal number: its
/// tails end at 4.9 standard deviations, and it costs a tenth of a logarithm and a cosine.
fn noise(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    // Mean 8 · 127.5; variance 8 · (256² - 1) / 12.
    let deviation = between(rng, 1.0, 8.0) as f32 / (8.0f32 * 65535.0 / 12.0).sqrt();
    for value in tile.iter_mut() {
        let sum: u32 = rng.next_u64().to_le_bytes().into_iter().map(u32::from).sum();
        *value = nearest(f32::from(*value) + (sum as f32 - 1020.0) * deviation);
    }
}

/// Compresses as JPEG with 4:2:0 chroma subsampling, and decodes.
fn compress(tile: &mut RgbImage, rng: &mut ChaCha8Rng) {
    let quality = 50 + below(rng, 46) as u8;
    let mut bytes = Vec::new();
    let side = u16::try_from(tile.width()).expect("a tile is smaller than 65,536 px");
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::R_4_2_0);
    encoder
        .encode(tile.as_raw(), side, side, jpeg_encoder::ColorType::Rgb)
        .expect("memory takes what is written to it");
    let decoded = JpegDecoder::new(Cursor::new(&bytes)).and_then(DynamicImage::from_decoder);
    *tile = decoded.expect("what was just encoded in memory decodes").into_rgb8();
}
