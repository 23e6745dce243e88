//! Tiles whose files would have one name in OUT: they are refused before anything is written, or
//! the order in which tiles are made would decide whose bytes are kept.

use std::collections::HashSet;
use std::path::PathBuf;

use super::error::AugmentError;
use super::tile::{Tile, number};

/// Checks tiles that are files.
///
/// # Errors
/// If two of them have one name but for its ending; or one, which is written as well as the
/// `variants` of all with `originals`, has the name of a variant of another.
pub(super) fn check_tiles(
    tiles: &[Tile],
    variants: usize,
    originals: bool,
) -> Result<(), AugmentError> {
    let mut stems: Vec<(PathBuf, &Tile)> = tiles.iter().map(|tile| (tile.stem(), tile)).collect();
    stems.sort_by(|one, other| (&one.0, &one.1.source).cmp(&(&other.0, &other.1.source)));
    if let Some([(_, one), (_, other)]) = stems.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let (one, other) = (one.source.display(), other.source.display());
        return Err(AugmentError::Use(format!(
            "{one} and {other} would be written to the same files: rename one of them"
        )));
    }
    let named_as_variants = tiles.iter().filter(|_| originals);
    for tile in named_as_variants {
        let source = tile.stem_of_source(variants);
        let known = |stem: PathBuf| stems.binary_search_by(|known| known.0.cmp(&stem)).ok();
        if let Some(place) = source.and_then(known) {
            let (tile, of) = (tile.source.display(), stems[place].1.source.display());
            return Err(AugmentError::Use(format!(
                "{tile} and a variant of {of} would be written to the same files: leave out \
                 --originals, or rename one of them"
            )));
        }
    }
    Ok(())
}

/// Checks the keys of the samples of one tar.
///
/// # Errors
/// In words, if one has the key of a variant of another, and both are written.
pub(super) fn check_keys(
    keys: &HashSet<String>,
    variants: usize,
    originals: bool,
) -> Result<(), String> {
    let of_variant = |key: &&String| {
        let source = key.rsplit_once('_');
        source.is_some_and(|(source, last)| {
            keys.contains(source) && (0..variants).any(|variant| last == number(variant))
        })
    };
    // The smallest, so that the same one is named each time.
    match keys.iter().filter(|_| originals).filter(of_variant).min() {
        Some(key) => Err(format!(
            "sample {key} and a variant of another would have one key: leave out --originals"
        )),
        None => Ok(()),
    }
}
