//! Variants beside an exact target: tiles of a field and the same tiles through one change of stain
//! and scanner.

use std::iter::repeat_n;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Device, Kind, Tensor};

use super::slides::{References, Slide};
use crate::encodings::{Encoded, Model};
use crate::evaluate::technique::{Technique, Way, draws};
use crate::transform::Transform;
use crate::transform::tensors::Transforms;
use crate::truth::{delta_e, psnr, unseen};
use restain_method::field::{GLASS, luminance};

/// Changes of stain for each field.
const CHANGES: usize = 3;
/// Share of glass from which on a tile counts as glassy.
const GLASSY: f64 = 0.4;
/// Streams of the seed that nothing else uses.
const STREAM: u64 = 1 << 26;

/// One change of one field.
pub(super) struct Case {
    slide: usize,
    /// The changed field.
    reference: References,
    /// Each of the field's contents, changed: u8 [H, W, 3].
    truths: Vec<Vec<u8>>,
    /// The same of those whose right half is glass.
    half_glass: Vec<Vec<u8>>,
}

/// The error of variants, means over the contents of a case.
pub(super) struct Error {
    pub delta_e: f64,
    pub psnr_db: f64,
    /// How far the variants go from the tiles to the truths; 1 is all the way.
    pub strength: Option<f64>,
    /// Of glass, in levels.
    pub glass: Option<f64>,
    /// Sum and count of ΔE of glassy contents, and of those whose right half is glass.
    glassy: (f64, f64),
}

/// Draws changes of every field, and encodes the changed tiles that describe it.
pub(super) fn cases(model: &mut Model, slides: &[Slide], seed: u64) -> Result<Vec<Case>> {
    let side = model.synth.geometry().image_size();
    let mut cases = Vec::new();
    for (index, slide) in slides.iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(STREAM + index as u64);
        for _ in 0..CHANGES {
            let change = unseen(&slide.stain, &mut rng);
            let changed = |tiles: &[Encoded]| {
                transformed(&change, tiles.iter().map(|tile| tile.tile.as_slice()), side)
            };
            let tiles = model.encode(changed(&slide.tiles))?;
            let [truths, half_glass] = [&slide.contents, &slide.half_glass].map(|of| changed(of));
            let reference = References::of(model, &tiles);
            cases.push(Case { slide: index, reference, truths, half_glass });
        }
    }
    Ok(cases)
}

impl Case {
    /// Measures the variants of a technique.
    pub(super) fn error(
        &self,
        model: &Model,
        slides: &[Slide],
        (method, way): (Technique, Way),
    ) -> Error {
        let slide = &slides[self.slide];
        let side = model.synth.geometry().image_size();
        let change = slide.reference.to(&self.reference, way);
        let mut error =
            Error { delta_e: 0.0, psnr_db: 0.0, strength: None, glass: None, glassy: (0.0, 0.0) };
        let (mut along, mut whole, mut glass, mut glass_values) = (0.0, 0.0, 0.0, 0.0);
        let count = self.truths.len() as f64;
        for (content, truth) in slide.contents.iter().zip(&self.truths) {
            let made = method.apply(&model.synth, content, change, &mut draws(0, STREAM, 0));
            let [a, b] = [&made, truth].map(|tile| pictures([tile.as_slice()], side));
            let off = delta_e(&a, &b).mean(Kind::Float).double_value(&[]);
            error.delta_e += off / count;
            error.psnr_db += psnr(&a, &b).double_value(&[0]) / count;
            let mut glassy = 0.0;
            let triples = content.tile.as_chunks::<3>().0.iter();
            for ((own, made), truth) in
                triples.zip(made.as_chunks::<3>().0).zip(truth.as_chunks::<3>().0)
            {
                let is_glass = luminance(own.map(|level| f64::from(level) / 255.0)) > GLASS;
                glassy += f64::from(u8::from(is_glass));
                for c in 0..3 {
                    let [own, made, truth] = [own[c], made[c], truth[c]].map(f64::from);
                    along += (made - own) * (truth - own);
                    whole += (truth - own).powi(2);
                    if is_glass {
                        glass += (made - truth).abs();
                        glass_values += 1.0;
                    }
                }
            }
            if glassy / (side * side) as f64 >= GLASSY {
                error.glassy = (error.glassy.0 + off, error.glassy.1 + 1.0);
            }
        }
        for (content, truth) in slide.half_glass.iter().zip(&self.half_glass) {
            let made = method.apply(&model.synth, content, change, &mut draws(0, STREAM, 0));
            let [a, b] = [&made, truth].map(|tile| pictures([tile.as_slice()], side));
            let off = delta_e(&a, &b).mean(Kind::Float).double_value(&[]);
            error.glassy = (error.glassy.0 + off, error.glassy.1 + 1.0);
        }
        error.strength = (whole > 0.0).then_some(along / whole);
        error.glass = (glass_values > 0.0).then_some(glass / glass_values);
        error
    }
}

impl Error {
    /// Returns the mean ΔE of glassy contents, where there are any.
    pub(super) fn glassy_delta_e(&self) -> Option<f64> {
        (self.glassy.1 > 0.0).then_some(self.glassy.0 / self.glassy.1)
    }
}

/// Applies a change to tiles: u8 [H, W, 3] each.
pub(in crate::evaluate) fn transformed<'a>(
    change: &Transform,
    tiles: impl ExactSizeIterator<Item = &'a [u8]>,
    side: usize,
) -> Vec<Vec<u8>> {
    let count = tiles.len();
    if count == 0 {
        return Vec::new();
    }
    let pictures = pictures(tiles, side);
    let changed = Transforms::new(repeat_n(change, count), Device::Cpu).apply(&pictures);
    let bytes = (changed * 255.0).round().to_kind(Kind::Uint8).permute([0, 2, 3, 1]).contiguous();
    let bytes = Vec::<u8>::try_from(bytes.view([-1])).expect("bytes in main memory");
    bytes.chunks_exact(3 * side * side).map(<[u8]>::to_vec).collect()
}

/// Stacks tiles, u8 [H, W, 3] each, into f32 [n, 3, H, W] in 0..1.
pub(in crate::evaluate) fn pictures<'a>(
    tiles: impl IntoIterator<Item = &'a [u8]>,
    side: usize,
) -> Tensor {
    let bytes: Vec<u8> = tiles.into_iter().flatten().copied().collect();
    let side = side as i64;
    Tensor::from_slice(&bytes).view([-1, side, side, 3]).permute([0, 3, 1, 2]).to_kind(Kind::Float)
        / 255.0
}
