//! PatchCamelyon: `camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5`. `x` is u8 [n, 96, 96, 3], `y` the labels
//! [n, 1, 1, 1]. The files are the splits; there is one domain.
//!
//! Rows are read where they lie: contiguous or chunked, plain or deflated. Files still in `.gz` cannot be read so.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use hdf5_pure::{DType, File};
use image::RgbImage;

use super::listing::{Item, Listing};
use super::places::Place;

const SPLITS: [&str; 3] = ["train", "valid", "test"];
const SIDE: u32 = 96;
/// A chunk that holds more rows than this makes every random read unpack that many images for one.
const CHUNK_ROWS: u64 = 8;

/// The images of one file.
pub(crate) struct Images {
    rows: hdf5_pure::Dataset,
}

impl Images {
    pub(crate) fn row(&self, row: u64) -> Result<RgbImage> {
        let pixels = self.rows.read_u8_rows(row, 1)?;
        RgbImage::from_raw(SIDE, SIDE, pixels)
            .with_context(|| format!("row {row} is not {SIDE}×{SIDE}×3 bytes"))
    }
}

fn name(split: &str, part: char) -> String {
    format!("camelyonpatch_level_2_split_{split}_{part}.h5")
}

fn is_file(root: &Path, name: &str) -> bool {
    root.join(name).is_file()
}

pub(crate) fn is_here(root: &Path) -> bool {
    SPLITS.iter().any(|split| {
        ["", ".gz"].iter().any(|end| is_file(root, &format!("{}{end}", name(split, 'x'))))
    })
}

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
        let (rows, count) = open_images(&root.join(&parts[0]))?;
        let labels = read_labels(&labels_file, count)?;
        let number = listing.splits.len();
        listing.splits.push(split.to_owned());
        let file = listing.places.images.len();
        listing.places.images.push(Images { rows });
        listing.items.extend((0..).zip(labels).map(|(row, label)| Item {
            path: PathBuf::from(format!("{}/{row:06}", parts[0])),
            domain,
            label: Some(label),
            split: Some(number),
            place: Place::Row { file, row },
            size: Some((SIDE, SIDE)),
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

fn open(path: &Path, part: &str) -> Result<(hdf5_pure::Dataset, Vec<u64>)> {
    let file = File::open_streaming(path)
        .with_context(|| format!("{} is no HDF5 file that can be read", path.display()))?;
    let dataset = file
        .dataset(part)
        .with_context(|| format!("{} has no data set {part:?}", path.display()))?;
    let shape =
        dataset.shape().with_context(|| format!("{}: {part} has no shape", path.display()))?;
    Ok((dataset, shape))
}

fn open_images(path: &Path) -> Result<(hdf5_pure::Dataset, u64)> {
    let (rows, shape) = open(path, "x")?;
    let kind = rows.dtype()?;
    let side = u64::from(SIDE);
    let count = match shape[..] {
        [count, height, width, 3] if (height, width) == (side, side) && kind == DType::U8 => count,
        _ => bail!(
            "{}: x is {kind:?} {shape:?}, and must be U8 [n, {SIDE}, {SIDE}, 3]",
            path.display()
        ),
    };
    if let Some(chunk) = rows.chunk_shape()?.filter(|chunk| chunk[0] > CHUNK_ROWS) {
        let told = "reading one unpacks all the chunks that it lies in; h5repack -l x:CHUNK=1x96x96x3 makes it fast";
        tracing::warn!(
            "{}: {} images lie in a chunk ({chunk:?}): {told}",
            path.display(),
            chunk[0]
        );
    }
    Ok((rows, count))
}

/// 0 or 1 for each of `count` images.
fn read_labels(path: &Path, count: u64) -> Result<Vec<usize>> {
    let (rows, shape) = open(path, "y")?;
    let right = shape.first() == Some(&count) && shape.iter().product::<u64>() == count;
    ensure!(right, "{}: y is {shape:?}, and must be [{count}, 1, 1, 1]", path.display());
    let labels = rows.read_u8().with_context(|| format!("{}: y cannot be read", path.display()))?;
    let wrong = labels.iter().position(|label| *label > 1);
    if let Some(row) = wrong {
        bail!("{}: y is {} in row {row}, and must be 0 or 1", path.display(), labels[row]);
    }
    Ok(labels.into_iter().map(usize::from).collect())
}
