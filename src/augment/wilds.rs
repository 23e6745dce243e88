//! metadata.csv of a WILDS root again, for the variants of its patches.
//!
//! A variant has its patch's row, with a node of its own and, behind the columns that were there,
//! where it comes from. The table is made once all parts of a job are done, out of the provenance
//! beside the files, so that neither a kill nor another part's end can lose a row or give one
//! twice.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use rayon::prelude::*;
use restain_data::{WildsRow, WildsTable};
use serde_json::Value;

use super::error::{AugmentError, unreadable};
use super::tile::{node_of, suffixed};

pub(super) const METADATA: &str = "metadata.csv";
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
/// Endings that an original may have.
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "tif", "tiff", "webp"];
/// Rows whose provenance is read at once.
const CHUNK: usize = 4096;

/// How variants are found below OUT.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub out: &'a Path,
    pub variants: usize,
    pub ending: &'a str,
    pub originals: bool,
}

/// Writes the table of what there is below OUT, of the selected rows: rows of bad tiles have no
/// variants and are left out. Returns how many rows there are.
///
/// # Errors
/// When the table or a file's provenance cannot be read, or the new table not be written.
pub(super) fn carry_along(
    table: &WildsTable,
    selected: &HashSet<u32>,
    written: Written<'_>,
    to: File,
    to_path: &Path,
) -> Result<u64, AugmentError> {
    let failed = |source: csv::Error| AugmentError::Write {
        path: to_path.to_owned(),
        source: source.into(),
    };
    let mut new = csv::Writer::from_writer(to);
    let headers = &table.headers;
    // Loaders take the first column for the number of the row, and look for no other in it.
    let numbered = headers.get(0).is_some_and(|first| first.is_empty() || first == "Unnamed: 0");
    let kept: Vec<usize> = (usize::from(numbered)..headers.len())
        .filter(|&place| !ADDED.contains(&&headers[place]))
        .collect();
    let names = kept.iter().map(|&place| &headers[place]).chain(ADDED);
    new.write_record([""].into_iter().chain(names)).map_err(failed)?;
    let rows = table.rows().map_err(AugmentError::Table)?;
    let mut rows = rows.zip(0..).filter(|(_, number)| selected.contains(number));
    let mut count = 0;
    loop {
        let chunk = rows.by_ref().take(CHUNK).map(|(row, number)| Ok((row?, number)));
        let chunk: Vec<(WildsRow, u32)> =
            chunk.collect::<anyhow::Result<_>>().map_err(AugmentError::Table)?;
        if chunk.is_empty() {
            break;
        }
        let node = table.node_column();
        let made: Vec<Vec<Vec<String>>> = chunk
            .par_iter()
            .map(|(row, number)| {
                let index = if numbered { row.record[0].to_owned() } else { number.to_string() };
                becomes(
                    row,
                    index,
                    |name| {
                        let own = kept.iter().map(|&place| {
                            if place == node { name } else { &row.record[place] }.to_owned()
                        });
                        own.collect()
                    },
                    written,
                )
            })
            .collect::<Result<_, _>>()?;
        for row in made.into_iter().flatten() {
            new.write_record([count.to_string()].into_iter().chain(row)).map_err(failed)?;
            count += 1;
        }
    }
    new.flush().map_err(|source| AugmentError::Write { path: to_path.to_owned(), source })?;
    Ok(count)
}

/// The rows that a row becomes, without their numbers; `own` gives the columns that were there,
/// with another node. `index` is the number of the row.
fn becomes(
    row: &WildsRow,
    index: String,
    own: impl Fn(&str) -> Vec<String>,
    written: Written<'_>,
) -> Result<Vec<Vec<String>>, AugmentError> {
    let patch = &row.patch;
    let mut rows = Vec::new();
    let mut push = |node: &str, added: [String; 12]| {
        let mut values = own(node);
        values.extend(added);
        rows.push(values);
    };
    for variant in 0..written.variants {
        let node = node_of(patch, variant);
        let stem = patch.path(&node);
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
        let added = [
            suffixed(&stem, &format!(".{}", written.ending)).display().to_string(),
            field("source"),
            index.clone(),
            patch.node.to_string(),
            variant.to_string(),
            field("style"),
            field("domain"),
            format!("{}/{}", field("model"), field("version")),
            field("bundle"),
            field("seed"),
            field("method"),
            field("tile_key"),
        ];
        push(&node, added);
    }
    let stem = patch.path(&patch.node);
    let spelt = ENDINGS.iter().flat_map(|ending| [(*ending).to_owned(), ending.to_uppercase()]);
    let mut files = spelt.map(|ending| suffixed(&stem, &format!(".{ending}")));
    if written.originals
        && let Some(file) = files.find(|file| written.out.join(file).exists())
    {
        let mut added: [String; 12] = Default::default();
        (added[0], added[1]) = (file.display().to_string(), file.display().to_string());
        (added[2], added[3]) = (index, patch.node.to_string());
        push(&patch.node, added);
    }
    Ok(rows)
}
