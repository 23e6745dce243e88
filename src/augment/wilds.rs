//! metadata.csv of a WILDS root in the columns of camelyon17_v1.0: which patches there are, and the
//! same table again for their variants.
//!
//! A variant has its patch's row, with a node of its own and, behind the columns that
//! were there, where it comes from. The table is made once all parts of a job are done, out of the
//! provenance beside the files, so that neither a kill nor another part's end can lose a row or
//! give one twice.

use std::fs::File;
use std::path::{Path, PathBuf};

use csv::StringRecord;
use rayon::prelude::*;
use serde_json::Value;

use super::error::{AugmentError, unreadable};
use super::tile::{Patch, Tile, suffixed};

pub(super) const METADATA: &str = "metadata.csv";
/// The columns that a path is built from.
const COLUMNS: [&str; 4] = ["patient", "node", "x_coord", "y_coord"];
/// What variants have besides; a table that is augmented again has the new values in them.
const ADDED: [&str; 12] = [
    "restain_file",
    "restain_source",
    "restain_source_index",
    "restain_source_node",
    "restain_variant",
    "restain_style",
    "restain_domain",
    "restain_model",
    "restain_bundle",
    "restain_seed",
    "restain_method",
    "restain_tile_key",
];
/// Rows whose provenance is read at once.
const CHUNK: usize = 4096;

/// A table of patches.
pub(super) struct Table {
    path: PathBuf,
    headers: StringRecord,
    /// Places of [`COLUMNS`].
    columns: [usize; 4],
}

/// How variants are found below OUT.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub out: &'a Path,
    pub variants: usize,
    pub ending: &'a str,
    pub originals: bool,
}

impl Table {
    /// The table of a root; `None` when there is none, or one without these columns.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(root: &Path) -> Result<Option<Self>, AugmentError> {
        let path = root.join(METADATA);
        if !path.is_file() {
            return Ok(None);
        }
        let headers = reader(&path)?.headers().cloned().map_err(wrong(&path))?;
        let place = |name: &str| headers.iter().position(|header| header == name);
        let [Some(patient), Some(node), Some(x), Some(y)] = COLUMNS.map(place) else {
            return Ok(None);
        };
        Ok(Some(Self { path, columns: [patient, node, x, y], headers }))
    }

    /// The columns that a root must have, for people.
    pub(super) fn wanted() -> String {
        COLUMNS.join(", ")
    }

    /// Every row's patch, in the order of the rows.
    ///
    /// # Errors
    /// When a row cannot be read, or its values cannot be part of a path.
    pub(super) fn patches(&self) -> Result<Vec<Tile>, AugmentError> {
        let rows = reader(&self.path)?.into_records();
        rows.map(|row| Ok(Tile::Patch(self.patch(&row.map_err(wrong(&self.path))?)?))).collect()
    }

    fn patch(&self, row: &StringRecord) -> Result<Patch, AugmentError> {
        let value = |place: usize| -> Result<Box<str>, AugmentError> {
            let value = &row[place];
            if value.is_empty() || value.contains(['/', '\\', '\0']) {
                let line = row.position().map_or(0, csv::Position::line);
                let (table, column) = (self.path.display(), &self.headers[place]);
                return Err(AugmentError::Use(format!(
                    "{table}, line {line}: {column} is {value:?}, which is no part of a patch's path"
                )));
            }
            Ok(value.into())
        };
        let [patient, node, x, y] = self.columns;
        Ok(Patch { patient: value(patient)?, node: value(node)?, x: value(x)?, y: value(y)? })
    }

    /// Writes the table of what there is below OUT: rows of bad tiles have no variants and are left
    /// out. Returns how many rows there are.
    ///
    /// # Errors
    /// When the table or a file's provenance cannot be read, or the new table not be written.
    pub(super) fn carry_along(
        &self,
        written: Written<'_>,
        to: File,
        to_path: &Path,
    ) -> Result<u64, AugmentError> {
        let failed = |source: csv::Error| AugmentError::Table { path: to_path.to_owned(), source };
        let mut table = csv::Writer::from_writer(to);
        let kept: Vec<usize> = (0..self.headers.len())
            .filter(|&place| !ADDED.contains(&&self.headers[place]))
            .collect();
        let headers = kept.iter().map(|&place| &self.headers[place]).chain(ADDED);
        table.write_record(headers).map_err(failed)?;
        // WILDS tables begin with the number of the row, in a column without a name.
        let numbered = kept.first() == Some(&0) && self.headers[0].is_empty();
        let (mut rows, mut count) = (reader(&self.path)?.into_records(), 0);
        loop {
            let chunk: Vec<StringRecord> =
                rows.by_ref().take(CHUNK).collect::<Result<_, _>>().map_err(wrong(&self.path))?;
            if chunk.is_empty() {
                break;
            }
            let made: Vec<Vec<Vec<String>>> = chunk
                .par_iter()
                .map(|row| self.rows(row, &kept, written))
                .collect::<Result<_, _>>()?;
            for mut row in made.into_iter().flatten() {
                if numbered {
                    row[0] = count.to_string();
                }
                table.write_record(&row).map_err(failed)?;
                count += 1;
            }
        }
        table.flush().map_err(|source| AugmentError::Write { path: to_path.to_owned(), source })?;
        Ok(count)
    }

    /// The rows that a row becomes.
    fn rows(
        &self,
        row: &StringRecord,
        kept: &[usize],
        written: Written<'_>,
    ) -> Result<Vec<Vec<String>>, AugmentError> {
        let patch = self.patch(row)?;
        let node = patch.node.clone();
        let tile = Tile::Patch(patch.clone());
        let mut rows = Vec::new();
        let mut push = |node: &str, added: [String; 12]| {
            let own = kept
                .iter()
                .map(|&place| if place == self.columns[1] { node } else { &row[place] }.to_owned());
            rows.push(own.chain(added).collect::<Vec<String>>());
        };
        let index = row[0].to_owned();
        for variant in 0..written.variants {
            let stem = tile.variant(variant);
            let record = written.out.join(suffixed(&stem, ".json"));
            let text = match std::fs::read(&record) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(record)(error)),
            };
            let of: Value =
                serde_json::from_slice(&text).map_err(|error| unreadable(&record)(error.into()))?;
            let field = |name: &str| match &of[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let file = suffixed(&stem, &format!(".{}", written.ending)).display().to_string();
            let model = format!("{}/{}", field("model"), field("version"));
            let (style, domain, seed) = (field("style"), field("domain"), field("seed"));
            let added = [
                file,
                field("source"),
                index.clone(),
                node.to_string(),
                variant.to_string(),
                style,
                domain,
                model,
                field("bundle"),
                seed,
                field("method"),
                field("tile_key"),
            ];
            push(&patch.node_of(variant), added);
        }
        if written.originals
            && let Ok(file) = tile.find(written.out)
        {
            let mut added: [String; 12] = Default::default();
            (added[0], added[1]) = (file.display().to_string(), file.display().to_string());
            (added[2], added[3]) = (index, node.to_string());
            push(&node, added);
        }
        Ok(rows)
    }
}

fn reader(path: &Path) -> Result<csv::Reader<File>, AugmentError> {
    csv::Reader::from_path(path).map_err(wrong(path))
}

fn wrong(path: &Path) -> impl Fn(csv::Error) -> AugmentError {
    let path = path.to_owned();
    move |source| AugmentError::Table { path: path.clone(), source }
}
