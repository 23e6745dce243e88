//! The table of a WILDS root, row by row, for readers and for those who write it again.
//!
//! It is read more leniently than by the `wilds` package, which takes every value as it stands:
//! blanks around values are ignored, a patient `4` is `004`, and `96.0` is 96, as spreadsheets and
//! pandas leave them. A row whose values lead to no patch is an error that names it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use csv::StringRecord;

use super::{PATCHES, RELEASES, SPLITS, TABLE, TEST_CENTER, UNLABELLED, VAL_CENTER, find};

/// The columns that are read.
const COLUMNS: [&str; 7] = ["patient", "node", "x_coord", "y_coord", "tumor", "center", "split"];

/// `metadata.csv` of a WILDS root.
pub struct WildsTable {
    /// The folder of the release, relative to the data set: empty, or one of its folders.
    pub below: PathBuf,
    /// The names of the columns, without blanks around them.
    pub headers: StringRecord,
    path: PathBuf,
    /// Places of [`COLUMNS`].
    columns: [usize; 7],
    /// Place of the number of the slide, which only other readers look into.
    slide: Option<usize>,
}

/// What a row says of where its patch is, as the names of files have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Of three digits.
    pub patient: Box<str>,
    /// A number, or the name of a variant.
    pub node: Box<str>,
    /// Pixels.
    pub x: Box<str>,
    /// Pixels.
    pub y: Box<str>,
}

/// One row of a [`WildsTable`].
pub struct WildsRow {
    /// In the file, from 1.
    pub line: u64,
    /// All values, without blanks around them; numbers as other readers expect them.
    pub record: StringRecord,
    /// Where it is.
    pub patch: Patch,
    pub(super) center: u32,
    pub(super) split: u32,
    tumor: String,
    table: PathBuf,
}

impl Patch {
    /// Returns the path of the patch below the folder of the release, without its ending, if it was
    /// of another `node`.
    pub fn path(&self, node: &str) -> PathBuf {
        let Self { patient, x, y, .. } = self;
        let slide = format!("patient_{patient}_node_{node}");
        PathBuf::from(format!("{PATCHES}/{slide}/patch_{slide}_x_{x}_y_{y}"))
    }
}

impl WildsTable {
    /// Opens the table of the release that `root` is, or holds.
    ///
    /// # Errors
    /// If there is no release, or there are two, or the table cannot be read or lacks a column.
    pub fn open(root: &Path) -> Result<Self> {
        let below = find(root).with_context(|| {
            format!("{} does not hold {TABLE} and a folder {PATCHES}", root.display())
        })?;
        let both =
            below != Path::new("") && RELEASES.iter().all(|release| root.join(release).is_dir());
        ensure!(!both, "{} holds {}: name one of them", root.display(), RELEASES.join(" and "));
        let path = root.join(&below).join(TABLE);
        ensure!(path.is_file(), "{} is missing", path.display());
        let headers = trimmed(reader(&path)?.headers().with_context(|| unreadable(&path))?);
        let place = |column: &str| headers.iter().position(|name| name == column);
        let missing: Vec<&str> =
            COLUMNS.into_iter().filter(|column| place(column).is_none()).collect();
        if !missing.is_empty() {
            let mut separators = [(';', "semicolons"), ('\t', "tabs")].into_iter();
            let separated = separators.find(|(by, _)| headers.iter().any(|it| it.contains(*by)));
            let why = separated.map_or(String::new(), |(_, by)| {
                format!(": its columns are separated by {by}, and must be by commas")
            });
            bail!("{} lacks the columns {}{why}", path.display(), missing.join(", "));
        }
        let columns = COLUMNS.map(|column| place(column).expect("none is missing"));
        let slide = place("slide");
        Ok(Self { below, headers, path, columns, slide })
    }

    /// Reads the rows, in their order.
    ///
    /// # Errors
    /// If the table cannot be opened. Each row is an error of its own if it cannot be read.
    pub fn rows(&self) -> Result<impl Iterator<Item = Result<WildsRow>>> {
        let records = reader(&self.path)?.into_records();
        Ok(records.map(|record| {
            let record = record.with_context(|| unreadable(&self.path))?;
            let line = record.position().map_or(0, csv::Position::line);
            self.row(trimmed(&record), line).with_context(|| self.at(line))
        }))
    }

    /// Returns the place of the column `node`.
    pub fn node_column(&self) -> usize {
        self.columns[1]
    }

    /// Names a line of the table.
    pub(super) fn at(&self, line: u64) -> String {
        format!("{}, line {line}", self.path.display())
    }

    fn row(&self, record: StringRecord, line: u64) -> Result<WildsRow> {
        let cell = |column: usize| &record[self.columns[column]];
        let number = |column: usize| -> Result<u32> {
            let wrong = || whole(COLUMNS[column], cell(column));
            canonical(cell(column)).parse().map_err(|_| wrong())
        };
        let coordinate = |column: usize| -> Result<Box<str>> {
            let value = canonical(cell(column));
            let wrong = |_| whole(COLUMNS[column], cell(column));
            value.parse::<i64>().map_err(wrong)?;
            Ok(value.into())
        };
        let node = canonical(cell(1));
        ensure!(
            !node.is_empty() && !node.contains(['/', '\\', '\0']),
            "node is {node:?}, and must be part of a file's name, such as 2"
        );
        // Some tools strip leading zeros when they write the table back.
        let patient = format!("{:03}", number(0)?);
        let patch = Patch {
            patient: patient.into(),
            node: node.into(),
            x: coordinate(2)?,
            y: coordinate(3)?,
        };
        let (center, split, tumor) = (number(5)?, number(6)?, canonical(cell(4)).to_owned());
        let mut values: Vec<&str> = record.iter().collect();
        for &column in self.columns.iter().chain(&self.slide) {
            values[column] = canonical(values[column]);
        }
        let Patch { patient, node, x, y } = &patch;
        for (column, value) in self.columns.iter().zip([patient, node, x, y]) {
            values[*column] = value;
        }
        let record = StringRecord::from(values);
        Ok(WildsRow { line, record, patch, center, split, tumor, table: self.path.clone() })
    }
}

impl WildsRow {
    /// Returns the label, 0 or 1.
    pub(super) fn label(&self) -> Result<usize> {
        match &self.tumor[..] {
            "0" => Ok(0),
            "1" => Ok(1),
            other => {
                let (table, line) = (self.table.display(), self.line);
                bail!("{table}, line {line}: tumor is {other:?}, and must be 0 or 1")
            }
        }
    }

    /// Returns the official split, as a place among the names of all.
    pub(super) fn split_index(&self, unlabelled: bool) -> Result<usize> {
        let split = self.split;
        if unlabelled {
            ensure!(
                split == UNLABELLED,
                "split is {split}, and must be {UNLABELLED} as in the rows before"
            );
            let is = |center| usize::from(self.center == center);
            return Ok(is(VAL_CENTER) + 2 * is(TEST_CENTER));
        }
        let split = match self.center {
            VAL_CENTER => 3,
            TEST_CENTER => 2,
            _ => split as usize,
        };
        ensure!(split < SPLITS.len(), "split is {split}, and must be 0 to {}", SPLITS.len() - 1);
        Ok(split)
    }
}

/// A whole number without the point and the zeros that some tools put behind it.
fn canonical(value: &str) -> &str {
    match value.split_once('.') {
        Some((whole, zeros))
            if !whole.is_empty()
                && whole.trim_start_matches('-').bytes().all(|digit| digit.is_ascii_digit())
                && zeros.bytes().all(|digit| digit == b'0') =>
        {
            whole
        }
        _ => value,
    }
}

fn whole(column: &str, value: &str) -> anyhow::Error {
    anyhow!("{column} is {value:?}, and must be a whole number")
}

fn trimmed(record: &StringRecord) -> StringRecord {
    record.iter().map(str::trim).collect()
}

fn reader(path: &Path) -> Result<csv::Reader<File>> {
    csv::ReaderBuilder::new().from_path(path).with_context(|| unreadable(path))
}

fn unreadable(path: &Path) -> String {
    format!("{} cannot be read", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_lose_their_point() {
        let of = |value| canonical(value);
        assert_eq!(
            ["96.0", "96.", "-3.00", "96", "2_v00"].map(of),
            ["96", "96", "-3", "96", "2_v00"]
        );
        assert_eq!(
            ["96.5", ".0", "a.0", "2_v00.0", "1.0.0"].map(of)[..],
            ["96.5", ".0", "a.0", "2_v00.0", "1.0.0"]
        );
    }
}
