//! PatchCamelyon: `camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5`. `x` is u8 [n, 96, 96,
//! 3], `y` the labels u8 [n, 1, 1, 1]. Each pair of files is an official split; all images belong
//! to one domain.
//!
//! Files still compressed as `.gz` are an error, because they do not allow random reads.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::listing::{Item, Listing};
use crate::places::Place;
use crate::rows::{Rows, read_labels};

const SPLITS: [&str; 3] = ["train", "valid", "test"];
const SIDE: u32 = 96;

fn name(split: &str, part: char) -> String {
    format!("camelyonpatch_level_2_split_{split}_{part}.h5")
}

fn is_file(root: &Path, name: &str) -> bool {
    root.join(name).is_file()
}

/// Returns whether `root` holds images of any split, compressed or not.
pub(crate) fn is_here(root: &Path) -> bool {
    SPLITS.iter().any(|split| {
        ["", ".gz"].iter().any(|end| is_file(root, &format!("{}{end}", name(split, 'x'))))
    })
}

/// Lists the images of every split that `root` holds.
///
/// # Errors
/// If no split is there, a file of labels is missing, a file is compressed, or its shape is
/// another.
pub(crate) fn list(root: &Path) -> Result<Listing> {
    let mut listing = Listing::default();
    ["normal", "tumor"].iter().for_each(|name| _ = listing.labels.number(name));
    let domain = listing.domains.number("pcam");
    let mut packed = Vec::new();
    for split in SPLITS {
        let parts = ['x', 'y'].map(|part| name(split, part));
        let gzipped = parts
            .iter()
            .filter(|part| !is_file(root, part) && is_file(root, &format!("{part}.gz")));
        packed.extend(gzipped.map(|part| format!("{part}.gz")));
        if !is_file(root, &parts[0]) {
            continue;
        }
        let labels_file = root.join(&parts[1]);
        ensure!(
            is_file(root, &parts[1]) || !packed.is_empty(),
            "{} is missing beside {}",
            labels_file.display(),
            parts[0]
        );
        ensure!(is_file(root, &parts[1]), "{} is compressed: gunzip it first", packed.join(", "));
        let (rows, count) = Rows::open(&root.join(&parts[0]), "x", SIDE)?;
        let labels = read_labels(&labels_file, "y", count)?;
        let number = listing.splits.len();
        listing.splits.push(split.to_owned());
        let file = listing.places.rows.len();
        listing.places.rows.push(rows);
        listing.items.extend((0..).zip(labels).map(|(row, label)| Item {
            slide: None,
            path: PathBuf::from(format!("{}/{row:06}", parts[0])),
            domain,
            label: Some(label),
            split: Some(number),
            place: Place::Row { file, row },
            size: Some((SIDE, SIDE)),
            number: 0,
        }));
    }
    ensure!(
        !listing.splits.is_empty() || packed.is_empty(),
        "{} are compressed: gunzip them first",
        packed.join(", ")
    );
    ensure!(!listing.splits.is_empty(), "{} holds no {}", root.display(), name("train", 'x'));
    listing.training = listing.splits.iter().filter(|split| *split == SPLITS[0]).cloned().collect();
    Ok(listing)
}
