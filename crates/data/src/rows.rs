//! Images as rows of an HDF5 data set: u8 [rows, side, side, 3].
//!
//! A row is read from where it lies: contiguous or chunked, plain or deflated. What the rows mean
//! is for the format that lists them.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use hdf5_pure::{DType, File};
use image::RgbImage;

/// With more rows in a chunk than this, one random read decompresses so many images that training
/// waits for it.
const CHUNK_ROWS: u64 = 8;

/// Square images of one side, all in one data set.
pub(crate) struct Rows {
    rows: hdf5_pure::Dataset,
    side: u32,
}

impl Rows {
    /// Opens data set `name` of an HDF5 file. Returns the number of rows as well. Warns about large
    /// chunks.
    ///
    /// # Errors
    /// If the file cannot be read, or the data set is not u8 [rows, side, side, 3].
    pub(crate) fn open(path: &Path, name: &str, side: u32) -> Result<(Self, u64)> {
        let (rows, shape) = open(path, name)?;
        let dtype = rows.dtype()?;
        let count = match shape[..] {
            [count, height, width, 3]
                if (height, width) == (side.into(), side.into()) && dtype == DType::U8 =>
            {
                count
            }
            _ => bail!(
                "{}: {name} is {} {shape:?}, and must be u8 [n, {side}, {side}, 3]",
                path.display(),
                dtype
            ),
        };
        if let Some(chunk) = rows.chunk_shape()?.filter(|chunk| chunk[0] > CHUNK_ROWS) {
            tracing::warn!(
                "{}: {name} has chunks of {} images, and each random read decompresses a whole \
                chunk; for fast reads rewrite the file with: h5repack -l \
                {name}:CHUNK=1x{side}x{side}x3",
                path.display(),
                chunk[0]
            );
        }
        Ok((Self { rows, side }, count))
    }

    /// Reads one image, [side, side, 3].
    ///
    /// # Errors
    /// If the row does not exist or cannot be decompressed.
    pub(crate) fn image(&self, row: u64) -> Result<RgbImage> {
        let pixels = self.rows.read_u8_rows(row, 1)?;
        RgbImage::from_raw(self.side, self.side, pixels)
            .with_context(|| format!("row {row} is not {0}×{0}×3 bytes", self.side))
    }
}

/// Reads a column of `count` labels, u8 [count, 1, 1, 1] of 0 and 1.
///
/// # Errors
/// If the file cannot be read, the shape is another, or a label is neither 0 nor 1.
pub(crate) fn read_labels(path: &Path, name: &str, count: u64) -> Result<Vec<usize>> {
    let (rows, shape) = open(path, name)?;
    let right = shape.first() == Some(&count) && shape.iter().product::<u64>() == count;
    ensure!(right, "{}: {name} is {shape:?}, and must be [{count}, 1, 1, 1]", path.display());
    let labels =
        rows.read_u8().with_context(|| format!("{}: cannot read {name}", path.display()))?;
    if let Some(row) = labels.iter().position(|label| *label > 1) {
        bail!("{}: {name} is {} in row {row}, and must be 0 or 1", path.display(), labels[row]);
    }
    Ok(labels.into_iter().map(usize::from).collect())
}

fn open(path: &Path, name: &str) -> Result<(hdf5_pure::Dataset, Vec<u64>)> {
    let file = File::open_streaming(path)
        .with_context(|| format!("cannot read {} as an HDF5 file", path.display()))?;
    let dataset = file
        .dataset(name)
        .with_context(|| format!("{} has no data set {name:?}", path.display()))?;
    let shape =
        dataset.shape().with_context(|| format!("{}: {name} has no shape", path.display()))?;
    Ok((dataset, shape))
}
