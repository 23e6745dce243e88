//! Which patches of an encoded tile stand for its stain, and the styles that they give.

use crate::encodings::{Encoded, Model};
use restain_method::{Style, exemplar};

/// Returns the characteristics of one patch, f32 [S].
pub(crate) fn style_of(model: &Model, encoded: &Encoded, patch: usize) -> Style {
    exemplar::style_of(model.synth.geometry(), &encoded.characteristics, patch)
}

/// Averages styles.
///
/// # Panics
/// If there are none, or their lengths differ.
pub(crate) fn mean(styles: &[Style]) -> Style {
    let weighted: Vec<(f32, &Style)> = styles.iter().map(|style| (1.0, style)).collect();
    Style::blend(&weighted).expect("styles of one model, and at least one")
}

/// Averages the characteristics of all tissue patches of some tiles, of any patches where none is
/// tissue: the style of their slide.
///
/// # Panics
/// If there are no tiles.
pub(crate) fn tissue_mean(model: &Model, tiles: &[Encoded]) -> Style {
    let tissue: Vec<Vec<bool>> = tiles.iter().map(|tile| model.tissue(&tile.tile)).collect();
    let any: Vec<Vec<bool>> = tissue.iter().map(|patches| vec![true; patches.len()]).collect();
    let over = |patches: &[Vec<bool>]| {
        let pairs = tiles.iter().zip(patches);
        let pairs = pairs.map(|(tile, patches)| (&tile.characteristics[..], &patches[..]));
        exemplar::mean_style(model.synth.geometry(), pairs)
    };
    over(&tissue).or_else(|| over(&any)).expect("there are tiles")
}

/// Returns up to `count` tissue patches, those whose styles reconstruct their own tile best; any
/// patches if none is tissue.
pub(crate) fn representatives(model: &Model, encoded: &Encoded, count: usize) -> Vec<usize> {
    exemplar::most_representative(
        &model.synth,
        &encoded.tile,
        &encoded.anatomy,
        &encoded.characteristics,
        count,
    )
}

/// Returns the tissue patch whose style reconstructs its own tile best; any patch if none is
/// tissue.
pub(crate) fn representative(model: &Model, encoded: &Encoded) -> usize {
    exemplar::representative(
        &model.synth,
        &encoded.tile,
        &encoded.anatomy,
        &encoded.characteristics,
    )
}
