//! Camelyon17-WILDS as released: `metadata.csv` and
//! `patches/patient_P_node_N/patch_patient_P_node_N_x_X_y_Y.png`, RGBA of 96 px, labelled
//! (`camelyon17_v1.0`) or not (`camelyon17_unlabeled_v1.0`).
//!
//! The official splits are those of the `wilds` package: all of centre 1 is val, all of centre 2 is
//! test, and for the other centres the column `split` is 0 for train and 1 for id_val. The
//! unlabelled release has `split` 10 in every row, and the centre alone decides. [`check`] compares
//! the selected rows with the files that exist; it opens none but one. [`WildsTable`] reads the
//! rows.

mod table;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use super::folders::ENDINGS;
use crate::listing::{Item, Listing};
use crate::places::Places;
pub use table::{Patch, WildsRow, WildsTable};

const TABLE: &str = "metadata.csv";
const PATCHES: &str = "patches";
const RELEASES: [&str; 2] = ["camelyon17_v1.0", "camelyon17_unlabeled_v1.0"];

const SPLITS: [&str; 4] = ["train", "id_val", "test", "val"];
const UNLABELLED_SPLITS: [&str; 3] = ["train_unlabeled", "val_unlabeled", "test_unlabeled"];
const VAL_CENTER: u32 = 1;
const TEST_CENTER: u32 = 2;
/// The value of the column `split` in the unlabelled release.
const UNLABELLED: u32 = 10;

/// At most this many missing files are named.
const NAMED: usize = 3;

/// Finds the folder of the release, relative to `root`: `root` itself, or one directly below it.
pub(crate) fn find(root: &Path) -> Option<PathBuf> {
    let is_release = |dir: &Path| {
        dir.join(PATCHES).is_dir() && (dir.join(TABLE).is_file() || has_slides(&dir.join(PATCHES)))
    };
    let mut candidates = std::iter::once("").chain(RELEASES);
    candidates.find(|candidate| is_release(&root.join(candidate))).map(PathBuf::from)
}

fn has_slides(patches: &Path) -> bool {
    let is_slide = |name: OsString| name.to_string_lossy().starts_with("patient_");
    std::fs::read_dir(patches).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| is_slide(entry.file_name())))
    })
}

/// Lists the rows of `metadata.csv`.
///
/// # Errors
/// If there is no release or there are two, or the table lacks a column, has a value that cannot be
/// parsed, or has a patch twice.
pub(crate) fn list(root: &Path) -> Result<Listing> {
    let table = WildsTable::open(root)?;
    let mut listing = Listing::default();
    let mut unlabelled = None;
    let mut seen = HashMap::new();
    for row in table.rows()? {
        let row = row?;
        let is_unlabelled = *unlabelled.get_or_insert(row.split == UNLABELLED);
        let in_row = || table.at(row.line);
        let split = row.split_index(is_unlabelled).with_context(in_row)?;
        let label = if is_unlabelled { None } else { Some(row.label()).transpose()? };
        let mut path = table.below.join(row.patch.path(&row.patch.node)).into_os_string();
        path.push(".png");
        let path = PathBuf::from(path);
        if let Some(other) = seen.insert(path.clone(), row.line) {
            bail!("{} names the patch of line {other} again: {}", in_row(), path.display());
        }
        let domain = listing.domains.number(&format!("center_{}", row.center));
        listing.items.push(Item { domain, label, split: Some(split), ..Item::file(path) });
    }
    let (splits, training) = match unlabelled {
        Some(true) => (UNLABELLED_SPLITS.map(String::from).to_vec(), UNLABELLED_SPLITS[0]),
        _ => (SPLITS.map(String::from).to_vec(), SPLITS[0]),
    };
    (listing.splits, listing.training) = (splits, vec![training.into()]);
    if unlabelled == Some(false) {
        ["normal", "tumor"].iter().for_each(|name| _ = listing.labels.number(name));
    }
    Ok(listing)
}

/// Checks that the file of every item exists, as [`resolve`] finds it. Gives all items the size of
/// the first whose header can be read.
///
/// # Errors
/// If files are missing.
pub(crate) fn check(items: &mut [Item], places: &Places) -> Result<()> {
    let missing = resolve(items, &places.root);
    if !missing.is_empty() {
        let named = &missing[..missing.len().min(NAMED)];
        bail!(
            "{} of {} files of {TABLE} are missing, for example {}",
            missing.len(),
            items.len(),
            named.join(", ")
        );
    }
    let size = items.iter().find_map(|item| places.size(&item.path, item.place).ok());
    items.iter_mut().for_each(|item| item.size = size);
    Ok(())
}

/// Finds the file of every item: in place of a missing `.png`, the ending of another image or one
/// in capitals. Returns the paths of those that have none. Reads the names in folders, and no file.
pub(crate) fn resolve(items: &mut [Item], root: &Path) -> Vec<String> {
    let folders: HashSet<PathBuf> =
        items.iter().filter_map(|item| item.path.parent().map(Path::to_owned)).collect();
    let names = |folder: PathBuf| {
        let entries = std::fs::read_dir(root.join(&folder)).into_iter().flatten();
        let names: HashSet<OsString> =
            entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        (folder, names)
    };
    let there: HashMap<PathBuf, HashSet<OsString>> = folders.into_par_iter().map(names).collect();
    let has = |path: &Path| {
        path.parent()
            .zip(path.file_name())
            .is_some_and(|(folder, name)| there[folder].contains(name))
    };
    let mut missing = Vec::new();
    for item in items.iter_mut().filter(|item| !has(&item.path)) {
        let spelt = ENDINGS.iter().flat_map(|end| [(*end).to_owned(), end.to_uppercase()]);
        let mut others = spelt.map(|end| item.path.with_extension(end));
        match others.find(|path| has(path)) {
            Some(path) => item.path = path,
            None => missing.push(item.path.display().to_string()),
        }
    }
    missing
}
