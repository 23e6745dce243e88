//! What a change of stain must leave as it is: glass, tissue beside glass, what two overlapping
//! tiles share, and which pixels of a slide are darker than others.

use super::slides::Slide;
use crate::downstream::statistics::area;
use crate::encodings::{Encoded, Model};
use crate::evaluate::technique::{Change, Technique, Way, draws};
use restain_method::field::luminance;
use restain_method::metrics::haematoxylin_mask;

/// The figures of one field in the stains of the fields of other domains.
pub(super) struct Kept {
    /// Largest change of a blank tile, levels.
    pub blank: Option<f64>,
    /// Mean change of tissue when glass lies beside it, levels.
    pub beside_glass: Option<f64>,
    /// Mean difference of what two overlapping tiles share, levels.
    pub overlap: Option<f64>,
    /// How well one threshold of darkness finds the nuclei of all tiles: AUROC.
    pub order: Option<f64>,
    /// The same for the tiles as they are.
    pub order_before: Option<f64>,
}

/// Measures a technique on field `index`.
pub(super) fn measure(
    model: &Model,
    slides: &[Slide],
    index: usize,
    (method, way): (Technique, Way),
) -> Kept {
    let slide = &slides[index];
    let side = model.synth.geometry().image_size();
    let others = slides.iter().filter(|other| other.domain != slide.domain);
    let changes: Vec<Change> =
        others.map(|other| slide.reference.to(&other.reference, way)).collect();
    let made = |content: &Encoded, change: Change| {
        method.apply(&model.synth, content, change, &mut draws(0, 0, 0))
    };
    let (mut blank, mut beside, mut overlap, mut order) =
        (None, Vec::new(), Vec::new(), Vec::new());
    let nuclei = haematoxylin_mask(&pixels(slide.tiles.iter().map(|tile| tile.tile.as_slice())));
    for &change in &changes {
        let of_blank = made(&slide.blank, change);
        let off = of_blank.iter().map(|&level| (f64::from(level) - 243.0).abs());
        blank = off.chain(blank).reduce(f64::max);
        let [half, whole] = slide.beside_glass.each_ref().map(|tile| made(tile, change));
        beside.push(difference(&columns(&half, side, 0), &columns(&whole, side, 0)));
        let [first, second] = slide.overlapping.each_ref().map(|tile| made(tile, change));
        overlap.push(difference(&columns(&first, side, 1), &columns(&second, side, 0)));
        let variants: Vec<Vec<u8>> = slide.tiles.iter().map(|tile| made(tile, change)).collect();
        order.extend(darkness(&pixels(variants.iter().map(Vec::as_slice)), &nuclei));
    }
    let before = pixels(slide.tiles.iter().map(|tile| tile.tile.as_slice()));
    let mean = |values: &[f64]| super::some_mean(values.iter().copied());
    Kept {
        blank,
        beside_glass: mean(&beside),
        overlap: mean(&overlap),
        order: mean(&order),
        order_before: darkness(&before, &nuclei),
    }
}

fn pixels<'a>(tiles: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    tiles.flatten().copied().collect()
}

/// Returns the left (0) or the right (1) half of a tile, u8 [H, W, 3] → [H, W/2, 3].
fn columns(tile: &[u8], side: usize, half: usize) -> Vec<u8> {
    let width = side / 2 * 3;
    tile.chunks_exact(3 * side).flat_map(|row| &row[half * width..][..width]).copied().collect()
}

/// Returns the mean absolute difference, levels.
fn difference(a: &[u8], b: &[u8]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a.abs_diff(b))).sum::<f64>() / a.len() as f64
}

/// Computes the AUROC of darkness for these pixels.
fn darkness(pixels: &[u8], nuclei: &[bool]) -> Option<f64> {
    let triples = pixels.as_chunks::<3>().0.iter().zip(nuclei);
    area(triples.map(|(pixel, &nucleus)| (-luminance(pixel.map(f64::from)), nucleus)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_tile_are_its_columns() {
        let tile: Vec<u8> = (0..4 * 4 * 3).collect();
        assert_eq!(columns(&tile, 4, 0)[..9], [0, 1, 2, 3, 4, 5, 12, 13, 14]);
        assert_eq!(columns(&tile, 4, 1)[..6], [6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn darkness_finds_what_is_darker_and_not_what_is_as_dark() {
        let nuclei = [true, true, false, false];
        let grey = |levels: [u8; 4]| levels.map(|level| [level; 3]).concat();
        assert_eq!(darkness(&grey([10, 20, 30, 40]), &nuclei), Some(1.0));
        assert_eq!(darkness(&grey([10, 40, 30, 20]), &nuclei), Some(0.5));
        assert_eq!(darkness(&grey([9; 4]), &[true; 4]), None);
    }
}
