//! WebDataset tars, read at random. A sample is the files that stand beside each other under one name, up to its first
//! dot: one picture, and its label as the text of `cls` or as `label` in `json`. `domain` in `json` is its domain, or else
//! the folder of the tar.
//!
//! Opening reads the headers of the tar, and `cls` and `json`; where a picture lies is kept, and read when it is drawn.
//! Not here: compressed tars, of which no part can be read alone.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde_json::Value;

use restain_bundle::codec::split_name;

use super::folders::{NO_DOMAIN, is_image};
use super::listing::{Item, Listing};
use super::places::Place;

/// A `cls` or `json` larger than this is none.
const FIELD_BYTES: u64 = 1 << 20;

/// A sample as it is gathered.
#[derive(Default)]
struct Sample {
    key: String,
    /// Ending, offset and length.
    picture: Option<(String, u64, u64)>,
    label: Option<String>,
    domain: Option<String>,
}

pub(crate) fn list(root: &Path, mut tars: Vec<PathBuf>) -> Result<Listing> {
    tars.sort();
    let read = |tar: &PathBuf| {
        let full = root.join(tar);
        let file =
            File::open(&full).with_context(|| format!("{} cannot be opened", full.display()))?;
        let samples = samples(&file).with_context(|| full.display().to_string())?;
        Ok((file, samples))
    };
    let read: Vec<(File, Vec<Sample>)> = tars.par_iter().map(read).collect::<Result<_>>()?;
    let mut listing = Listing::default();
    for (number, (tar, (file, samples))) in tars.iter().zip(read).enumerate() {
        let folder =
            tar.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let folder = folder.unwrap_or_else(|| NO_DOMAIN.into());
        listing.places.tars.push(file);
        for sample in samples {
            let Some((ending, offset, length)) = sample.picture else { continue };
            listing.items.push(Item {
                path: tar.join(format!("{}.{ending}", sample.key)),
                domain: listing.domains.number(sample.domain.as_ref().unwrap_or(&folder)),
                label: sample.label.map(|label| listing.labels.number(&label)),
                split: None,
                place: Place::Entry { tar: number, offset, length },
                size: None,
            });
        }
    }
    Ok(listing)
}

fn samples(file: &File) -> Result<Vec<Sample>> {
    let end = file.metadata()?.len();
    let mut archive = tar::Archive::new(BufReader::new(file));
    let mut samples: Vec<Sample> = Vec::new();
    for entry in archive.entries_with_seek()? {
        let mut entry = entry.context("the tar is damaged or cut off")?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path =
            String::from_utf8(entry.path_bytes().into_owned()).context("a name is not UTF-8")?;
        let (offset, length) = (entry.raw_file_position(), entry.size());
        ensure!(offset + length <= end, "the tar is cut off within {path}");
        let Some((key, field)) = split_name(&path) else { continue };
        if samples.last().is_none_or(|last| last.key != key) {
            samples.push(Sample { key: key.to_owned(), ..Sample::default() });
        }
        let sample = samples.last_mut().expect("one was put there");
        if is_image(Path::new(&path)) {
            let second = sample.picture.replace((field.to_owned(), offset, length));
            if let Some((first, ..)) = second {
                anyhow::bail!(
                    "sample {key} has several pictures, {first} and {field}, and must have one"
                );
            }
        } else if ["cls", "json"].contains(&field) {
            ensure!(
                length <= FIELD_BYTES,
                "{path} is {length} bytes, and at most {FIELD_BYTES} are read"
            );
            let mut text = String::new();
            entry.read_to_string(&mut text).with_context(|| format!("{path} is not UTF-8"))?;
            sample.describe(field, &text).with_context(|| path.clone())?;
        }
    }
    Ok(samples)
}

impl Sample {
    fn describe(&mut self, field: &str, text: &str) -> Result<()> {
        if field == "cls" {
            let class: i64 =
                text.trim().parse().with_context(|| format!("{text:?} is no whole number"))?;
            self.label = Some(class.to_string());
            return Ok(());
        }
        let json: Value = serde_json::from_str(text).context("this is no JSON")?;
        let named = |name: &str| match json.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        self.domain = named("domain");
        // What cls says comes first, wherever it stands.
        self.label = self.label.take().or_else(|| named("label"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_comes_before_the_label_in_whatever_order_they_stand() {
        for fields in [["cls", "json"], ["json", "cls"]] {
            let mut sample = Sample::default();
            for field in fields {
                sample
                    .describe(
                        field,
                        if field == "cls" { "7\n" } else { r#"{"label": "seven", "domain": "d"}"# },
                    )
                    .unwrap();
            }
            assert_eq!((sample.label.as_deref(), sample.domain.as_deref()), (Some("7"), Some("d")));
        }
    }
}
