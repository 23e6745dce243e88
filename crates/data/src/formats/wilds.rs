//! Camelyon17-WILDS as released: `metadata.csv` and
//! `patches/patient_P_node_N/patch_patient_P_node_N_x_X_y_Y.png`, RGBA of 96 px, labelled
//! (`camelyon17_v1.0`) or not (`camelyon17_unlabeled_v1.0`).
//!
//! The official splits are those of the `wilds` package: all of centre 1 is val, all of centre 2 is
//! test, and for the other centres the column `split` is 0 for train and 1 for id_val. The
//! unlabelled release has `split` 10 in every row, and the centre alone decides. [`check`] compares
//! the selected rows with the files that exist; it opens none but one.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rayon::prelude::*;

use crate::listing::{Item, Listing, Names};
use crate::places::{Place, Places};

const TABLE: &str = "metadata.csv";
const PATCHES: &str = "patches";
const RELEASES: [&str; 2] = ["camelyon17_v1.0", "camelyon17_unlabeled_v1.0"];
const COLUMNS: [&str; 7] = ["patient", "node", "x_coord", "y_coord", "tumor", "center", "split"];

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
/// If there is no release or there are two, or the table lacks a column or has a value that cannot
/// be parsed.
pub(crate) fn list(root: &Path) -> Result<Listing> {
    let below = find(root).with_context(|| {
        format!("{} does not hold {TABLE} and a folder {PATCHES}", root.display())
    })?;
    let both = below != Path::new("") && RELEASES.iter().all(|release| root.join(release).is_dir());
    ensure!(!both, "{} holds {}: name one of them", root.display(), RELEASES.join(" and "));
    let table = root.join(&below).join(TABLE);
    ensure!(table.is_file(), "{} is missing", table.display());
    let mut reader = csv::Reader::from_path(&table)
        .with_context(|| format!("{} cannot be read", table.display()))?;
    let header =
        reader.headers().with_context(|| format!("{} cannot be read", table.display()))?.clone();
    let place = |column: &str| header.iter().position(|name| name.trim() == column);
    let missing: Vec<&str> = COLUMNS.into_iter().filter(|column| place(column).is_none()).collect();
    ensure!(missing.is_empty(), "{} lacks the columns {}", table.display(), missing.join(", "));
    let columns = COLUMNS.map(|column| place(column).expect("none is missing"));

    let mut listing = Listing::default();
    let mut record = csv::StringRecord::new();
    let mut row = 1;
    let mut unlabelled = None;
    while reader
        .read_record(&mut record)
        .with_context(|| format!("{}, row {row}", table.display()))?
    {
        let cells = columns.map(|column| record.get(column).unwrap_or_default().trim());
        let row_of =
            Row::parse(cells).with_context(|| format!("{}, row {row}", table.display()))?;
        let is_unlabelled = *unlabelled.get_or_insert(row_of.split == UNLABELLED);
        listing.items.push(
            row_of
                .item(&below, is_unlabelled, &mut listing.domains)
                .with_context(|| format!("{}, row {row}", table.display()))?,
        );
        row += 1;
    }
    match unlabelled {
        Some(true) => {
            (listing.splits, listing.training) =
                (UNLABELLED_SPLITS.map(String::from).to_vec(), vec![UNLABELLED_SPLITS[0].into()])
        }
        _ => {
            (listing.splits, listing.training) =
                (SPLITS.map(String::from).to_vec(), vec![SPLITS[0].into()])
        }
    }
    if unlabelled == Some(false) {
        ["normal", "tumor"].iter().for_each(|name| _ = listing.labels.number(name));
    }
    Ok(listing)
}

/// The columns of one row that are used.
struct Row<'a> {
    slide: String,
    x: &'a str,
    y: &'a str,
    tumor: &'a str,
    center: u32,
    split: u32,
}

impl<'a> Row<'a> {
    fn parse([patient, node, x, y, tumor, center, split]: [&'a str; 7]) -> Result<Self> {
        let number = |column: &str, text: &str| {
            text.parse().map_err(|_| anyhow!("{column} is {text:?}, and must be a whole number"))
        };
        // Some tools strip leading zeros when they write the table back.
        let slide = format!("patient_{:03}_node_{node}", number("patient", patient)?);
        Ok(Self {
            slide,
            x,
            y,
            tumor,
            center: number("center", center)?,
            split: number("split", split)?,
        })
    }

    fn item(&self, below: &Path, unlabelled: bool, domains: &mut Names) -> Result<Item> {
        let Self { slide, x, y, .. } = self;
        let split = match (unlabelled, self.center) {
            (true, _) => {
                ensure!(
                    self.split == UNLABELLED,
                    "split is {}, and must be {UNLABELLED} as in the rows before",
                    self.split
                );
                usize::from(self.center == VAL_CENTER) + 2 * usize::from(self.center == TEST_CENTER)
            }
            (false, VAL_CENTER) => 3,
            (false, TEST_CENTER) => 2,
            (false, _) => self.split as usize,
        };
        ensure!(
            unlabelled || split < SPLITS.len(),
            "split is {split}, and must be 0 to {}",
            SPLITS.len() - 1
        );
        let label = match self.tumor {
            _ if unlabelled => None,
            "0" => Some(0),
            "1" => Some(1),
            other => bail!("tumor is {other:?}, and must be 0 or 1"),
        };
        let mut path = below.join(PATCHES);
        path.push(slide);
        path.push(format!("patch_{slide}_x_{x}_y_{y}.png"));
        let domain = domains.number(&format!("center_{}", self.center));
        Ok(Item { path, domain, label, split: Some(split), place: Place::File, size: None })
    }
}

/// Checks that the file of every item exists, and takes a JPEG in place of a missing PNG, as
/// phantoms may have. Gives all items the size of the first whose header can be read.
///
/// # Errors
/// If files are missing.
pub(crate) fn check(items: &mut [Item], places: &Places) -> Result<()> {
    let folders: HashSet<PathBuf> =
        items.iter().filter_map(|item| item.path.parent().map(Path::to_owned)).collect();
    let names = |folder: PathBuf| {
        let entries = std::fs::read_dir(places.root.join(&folder)).into_iter().flatten();
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
    for item in items.iter_mut() {
        if !has(&item.path) {
            let jpeg = item.path.with_extension("jpg");
            if has(&jpeg) {
                item.path = jpeg
            } else {
                missing.push(item.path.display().to_string())
            }
        }
    }
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
