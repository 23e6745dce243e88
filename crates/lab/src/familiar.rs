//! What tiles a model knows: measured on those that it was trained on, so that a server can warn of
//! others.

use anyhow::{Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::encodings::Model;
use crate::phase::Phase;
use restain_bundle::Familiar;
use restain_data::{Dataset, shuffle};
use restain_method::exemplar::{self, ENOUGH_TISSUE};
use restain_method::shrink::shrink;

/// Tiles of each domain at each magnification: enough for the lowest hundredth of all.
const TILES: usize = 64;
/// Images of each domain that they are cut from.
const IMAGES: usize = 16;

/// Magnifications that a model was trained on, µm a pixel: the finest, which is that of the
/// images, and the coarsest, to which they were shrunk.
pub type Microns = [f64; 2];

/// Parses `--mpp`: one magnification, or the finest and the coarsest.
///
/// # Errors
/// In one sentence, what is wrong.
pub fn microns(text: &str) -> Result<Microns, String> {
    let numbers: Vec<f64> = text
        .split(',')
        .map(|number| number.trim().parse().map_err(|_| format!("{number:?} is not a number")))
        .collect::<Result<_, _>>()?;
    let range = match numbers[..] {
        [one] => [one, one],
        [finest, coarsest] => [finest, coarsest],
        _ => return Err("must be one size of a pixel, or two: FINEST,COARSEST".to_owned()),
    };
    let is_range = (0.01..=100.0).contains(&range[0]) && (range[0]..=100.0).contains(&range[1]);
    is_range.then_some(range).ok_or_else(|| {
        "must be from 0.01 to 100 µm, of two sizes of a pixel the smaller first".to_owned()
    })
}

/// Measures the PSNR of reconstructions of tissue, at the magnifications that the model knows, and
/// returns what 99 of 100 tiles reach. Without a tile of tissue that is left open.
///
/// # Errors
/// If more images are damaged than the data set allows, or the encoder fails.
pub fn measure(
    model: &mut Model,
    dataset: &Dataset,
    mpp: Option<Microns>,
    seed: u64,
) -> Result<Familiar> {
    // Images that are smaller than a tile are enlarged to one.
    let side = model.synth.geometry().image_size();
    let sides = dataset.sources.iter().map(|source| source.width.min(source.height));
    let shown = sides
        .filter(|&length| length > 0)
        .max()
        .map_or(1.0, |largest| f64::from(largest) / side as f64)
        .min(1.0);
    let mpp = mpp.map(|range| range.map(|mpp| mpp * shown));
    let coarsest = mpp.map_or(1.0, |[finest, coarsest]| coarsest / finest);
    let factors: Vec<usize> = std::iter::successors(Some(1), |factor| Some(2 * factor))
        .take_while(|&factor| factor as f64 <= coarsest)
        .collect();
    let phase = Phase::start("domains reconstructed", dataset.domains.len());
    let mut decibels = Vec::new();
    for domain in 0..dataset.domains.len() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(domain as u64);
        let mut sources: Vec<_> =
            dataset.sources.iter().filter(|source| source.domain == domain).collect();
        shuffle(&mut sources, &mut rng);
        sources.truncate(IMAGES);
        for &factor in &factors {
            let large = side * factor;
            let mut tiles = Vec::new();
            for source in &sources {
                // Enlarged, it would be a magnification that the model does not know.
                if factor > 1 && (source.width.min(source.height) as usize) < large {
                    continue;
                }
                let mut of_image = dataset.grid_tiles(source, large)?;
                shuffle(&mut of_image, &mut rng);
                let seen = of_image.iter().map(|tile| shrink(tile, (large, large), (side, side)));
                let tissue = seen.filter(|tile| {
                    exemplar::is_tissue(model.synth.geometry(), tile, ENOUGH_TISSUE)
                });
                tiles.extend(tissue.take(TILES.div_ceil(sources.len())));
            }
            decibels.extend(fidelities(model, tiles)?);
        }
        phase.advance(1);
    }
    decibels.sort_by(f32::total_cmp);
    let fidelity = decibels.get(decibels.len() / 100).map(|lowest| (lowest * 10.0).floor() / 10.0);
    ensure!(fidelity.is_none_or(f32::is_finite), "a reconstruction is not finite");
    Ok(Familiar { mpp, fidelity })
}

/// The PSNR of the reconstruction of each tile, dB.
fn fidelities(model: &mut Model, tiles: Vec<Vec<u8>>) -> Result<Vec<f32>> {
    let encoded = model.encode(tiles)?;
    let mut scratch = model.synth.scratch();
    let of = |tile: &crate::encodings::Encoded| {
        let (anatomy, characteristics) = (&tile.anatomy, &tile.characteristics);
        model.synth.compare(anatomy, characteristics, &tile.tile, &mut scratch).1
    };
    Ok(encoded.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnifications_are_one_or_a_range() {
        assert_eq!(microns("0.25"), Ok([0.25, 0.25]));
        assert_eq!(microns(".25, 1"), Ok([0.25, 1.0]));
        for (text, said) in [
            ("1,.25", "the smaller first"),
            ("0", "from 0.01 to 100"),
            ("NaN", "from 0.01 to 100"),
            ("1,2,3", "FINEST,COARSEST"),
            ("x", "not a number"),
        ] {
            assert!(microns(text).unwrap_err().contains(said), "{text}");
        }
    }
}
