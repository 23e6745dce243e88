//! Which patches of an encoded tile stand for its stain, and the styles that they give.

use crate::encodings::{Encoded, Model};
use restain_method::{Style, exemplar};

/// Returns the characteristics of one patch, f32 [h].
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

/// Returns up to `count` tissue patches, those whose styles reconstruct their own tile best; any patches if none is
/// tissue.
pub(crate) fn representatives(model: &Model, encoded: &Encoded, count: usize) -> Vec<usize> {
    exemplar::most_representative(
        &model.synth,
        &encoded.tile,
        &encoded.anatomy,
        &encoded.characteristics,
        count,
    )
}

/// Returns the tissue patch whose style reconstructs its own tile best; any patch if none is tissue.
pub(crate) fn representative(model: &Model, encoded: &Encoded) -> usize {
    exemplar::representative(
        &model.synth,
        &encoded.tile,
        &encoded.anatomy,
        &encoded.characteristics,
    )
}
