//! Fields with their stains, and tiles of them.

use anyhow::Result;
use image::{RgbImage, imageops};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::encodings::{Encoded, Model};
use crate::evaluate::technique::{Change, Reference, Way};
use crate::exemplars::{representative, style_of, tissue_mean};
use crate::phase::Phase;
use restain_data::{Dataset, below};
use restain_method::exemplar::{ENOUGH_TISSUE, is_tissue};
use restain_method::field::{FieldStain, SAMPLE, sample};

/// Tiles that describe a slide.
const TILES: usize = 16;
/// Tiles that are restained.
const CONTENTS: usize = 6;
/// Random places that are tried for each tile with tissue.
const TRIES: usize = 20;
/// Streams of the seed that nothing else uses.
const STREAM: u64 = 1 << 25;

/// A field, which stands for its slide.
pub(super) struct Slide {
    pub domain: usize,
    pub stain: FieldStain,
    /// Tiles to be restained, at random places; every other one is the one of five with most glass.
    pub contents: Vec<Encoded>,
    /// `contents` with their right halves turned into glass.
    pub half_glass: Vec<Encoded>,
    /// Tiles half of which or more is tissue; they describe the slide.
    pub tiles: Vec<Encoded>,
    /// Two tiles that share half of their pixels: the right half of the first is the left half of
    /// the second.
    pub overlapping: [Encoded; 2],
    /// A tile of tissue with its right half turned into glass, and the tile before that.
    pub beside_glass: [Encoded; 2],
    /// A tile of 243 everywhere.
    pub blank: Encoded,
    pub reference: References,
}

/// The statistics of a stain, measured on one tile and on several.
pub(super) struct References {
    tile: Reference,
    slide: Reference,
}

impl References {
    /// Measures encoded tiles; the first is the one tile.
    pub(super) fn of(model: &Model, tiles: &[Encoded]) -> Self {
        let one = style_of(model, &tiles[0], representative(model, &tiles[0]));
        let pixels: Vec<&[u8]> = tiles.iter().map(|tile| tile.tile.as_slice()).collect();
        Self {
            tile: Reference::new(one, &pixels[..1]),
            slide: Reference::new(tissue_mean(model, tiles), &pixels),
        }
    }

    /// Returns the change from this stain to another, as `way` describes both.
    pub(super) fn to<'a>(&'a self, other: &'a Self, way: Way) -> Change<'a> {
        match way {
            Way::Tile => Change { from: None, to: &other.tile },
            Way::Style => Change { from: None, to: &other.slide },
            Way::Slide => Change { from: Some(&self.slide), to: &other.slide },
        }
    }
}

/// Reads the fields of a data set, shrunk to `1/shrink` of their sides, and encodes tiles of them.
/// The same seed gives the same tiles.
pub(super) fn slides(
    model: &mut Model,
    dataset: &Dataset,
    shrink: u32,
    seed: u64,
) -> Result<Vec<Slide>> {
    let side = model.synth.geometry().image_size() as u32;
    let mut slides = Vec::new();
    let phase = Phase::start("fields read and encoded", dataset.sources.len());
    for (index, source) in dataset.sources.iter().enumerate() {
        phase.advance(1);
        if source.width.min(source.height) / shrink < 2 * side {
            continue;
        }
        let Some(image) = dataset.readable(source)? else { continue };
        let image = shrunk(&image, shrink);
        let Some(stain) = FieldStain::of(&sample(image.as_raw(), SAMPLE)) else { continue };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM + index as u64);
        if let Some(slide) = slide(model, (&image, source.domain, stain), &mut rng)? {
            slides.push(slide);
        }
    }
    Ok(slides)
}

/// Shrinks an image to `1/shrink` of its sides.
pub(in crate::evaluate) fn shrunk(image: &RgbImage, shrink: u32) -> RgbImage {
    let (width, height) = (image.width() / shrink, image.height() / shrink);
    match shrink {
        1 => image.clone(),
        _ => imageops::resize(image, width, height, imageops::FilterType::Triangle),
    }
}

/// Cuts and encodes the tiles of a field; `None` if too few are tissue.
fn slide(
    model: &mut Model,
    (image, domain, stain): (&RgbImage, usize, FieldStain),
    rng: &mut ChaCha8Rng,
) -> Result<Option<Slide>> {
    let geometry = *model.synth.geometry();
    let side = geometry.image_size() as u32;
    let mut tissue = |share: f64| {
        (0..TRIES).map(|_| cut(image, side, rng)).find(|tile| is_tissue(&geometry, tile, share))
    };
    let tiles: Vec<Vec<u8>> = (0..TILES).filter_map(|_| tissue(ENOUGH_TISSUE)).collect();
    let Some(whole) = tissue(ENOUGH_TISSUE).filter(|_| tiles.len() >= 2) else {
        return Ok(None);
    };
    let contents = (0..CONTENTS).map(|i| match i % 2 {
        0 => cut(image, side, rng),
        _ => (0..5).map(|_| cut(image, side, rng)).max_by_key(|tile| bright(tile)).expect("five"),
    });
    let contents: Vec<Vec<u8>> = contents.collect();
    let [x, y] = place(image, [side + side / 2, side], rng);
    let overlapping = [0, side / 2].map(|shift| crop(image, [x + shift, y], side));
    let white = stain.white.map(|white| (255.0 * white).round() as u8);
    let half = half_glass(&whole, side, white);
    let halves = contents.iter().map(|tile| half_glass(tile, side, white)).collect();
    let [first, second] = overlapping;
    let others = [first, second, half, whole, vec![243; geometry.tile_bytes()]];
    let [tiles, contents] = [model.encode(tiles)?, model.encode(contents)?];
    let half_glass = model.encode(halves)?;
    let others: [Encoded; 5] =
        model.encode(others.into())?.try_into().ok().expect("as many as were given");
    let [first, second, half, whole, blank] = others;
    Ok(Some(Slide {
        domain,
        stain,
        reference: References::of(model, &tiles),
        contents,
        half_glass,
        tiles,
        overlapping: [first, second],
        beside_glass: [half, whole],
        blank,
    }))
}

/// Turns the right half of a tile, u8 [H, W, 3], into glass.
fn half_glass(tile: &[u8], side: u32, white: [u8; 3]) -> Vec<u8> {
    let pixels = tile.as_chunks::<3>().0.iter().enumerate();
    pixels.flat_map(|(i, pixel)| if i as u32 % side < side / 2 { *pixel } else { white }).collect()
}

/// Cuts a tile at a random place.
fn cut(image: &RgbImage, side: u32, rng: &mut ChaCha8Rng) -> Vec<u8> {
    crop(image, place(image, [side, side], rng), side)
}

/// Draws the corner of a rectangle of this width and height.
fn place(image: &RgbImage, [width, height]: [u32; 2], rng: &mut ChaCha8Rng) -> [u32; 2] {
    [(image.width(), width), (image.height(), height)]
        .map(|(whole, part)| below(rng, u64::from(whole - part) + 1) as u32)
}

fn crop(image: &RgbImage, [x, y]: [u32; 2], side: u32) -> Vec<u8> {
    imageops::crop_imm(image, x, y, side, side).to_image().into_raw()
}

/// Counts values that are nearly white.
fn bright(tile: &[u8]) -> usize {
    tile.iter().filter(|&&level| level > 220).count()
}
