//! Another stain for a field, before its transform.
//!
//! A model that has seen each field in one stain alone can know the field by its colours, and with
//! it the tissue, which tells it the stain that a tile has. On other fields it errs more. With a
//! stain of its own for every draw, only the tile itself tells.

use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use restain_lab::transform::tensors::Transforms;
use restain_lab::transform::{Ranges, Transform};
use restain_method::field::FieldStain;

/// What a field is before its transform: as it is, or in another stain.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub stain: FieldStain,
    transform: Option<Transform>,
}

impl Base {
    /// Takes a field as it is.
    pub(super) fn own(stain: &FieldStain) -> Self {
        Self { stain: stain.clone(), transform: None }
    }

    /// Draws another stain for a field, towards that of `other`. `sample` is some of its pixels, u8
    /// `[n, 3]`. The field stays as it is if its pixels do not show two stains afterwards.
    pub(super) fn draw(
        (stain, sample): (&FieldStain, &[u8]),
        other: &FieldStain,
        ranges: &Ranges,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        // Focus is a property of the picture, not of a sample of its pixels; g has one.
        let ranges = Ranges { focus_chance: 0.0, ..*ranges };
        let transform = Transform::beer_lambert(stain, other, &ranges, rng);
        match FieldStain::of(&transformed(sample, [1, sample.len() / 3], &transform)) {
            Some(stain) => Self { stain, transform: Some(transform) },
            None => Self::own(stain),
        }
    }

    /// Gives a tile of the field this stain.
    pub(super) fn apply(&self, tile: RgbImage) -> RgbImage {
        let Some(transform) = &self.transform else { return tile };
        let (width, height) = tile.dimensions();
        let pixels = transformed(tile.as_raw(), [height as usize, width as usize], transform);
        RgbImage::from_raw(width, height, pixels).expect("as many pixels as before")
    }
}

/// Transforms pixels, u8 `[H, W, 3]` → the same, rounded.
fn transformed(pixels: &[u8], [height, width]: [usize; 2], transform: &Transform) -> Vec<u8> {
    let shape = [1, height as i64, width as i64, 3];
    let planes = Tensor::from_slice(pixels).view(shape).permute([0, 3, 1, 2]);
    let made =
        Transforms::new([transform], Device::Cpu).apply(&(planes.to_kind(Kind::Float) / 255));
    let made = (made * 255).round().to_kind(Kind::Uint8).permute([0, 2, 3, 1]).contiguous();
    Vec::try_from(made.view([-1])).expect("a tensor of bytes")
}
