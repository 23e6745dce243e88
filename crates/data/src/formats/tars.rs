//! WebDataset tars, read at random. A sample is a run of consecutive files whose names agree up to
//! the first dot: one image, and its label as the text of `cls` or as `label` in `json`. Its domain
//! is `domain` in `json`, or else the folder of the tar.
//!
//! Listing reads the headers of the tar and the small fields `cls` and `json`; images are read when
//! they are drawn. Compressed tars are not supported, because they do not allow random reads.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rayon::prelude::*;
use serde_json::Value;

use restain_bundle::codec::split_name;

use super::folders::{NO_DOMAIN, is_image};
use crate::listing::{Item, Listing};
use crate::places::Place;

/// A larger `cls` or `json` is an error.
const FIELD_BYTES: u64 = 1 << 20;

/// The fields of one sample.
#[derive(Default)]
struct Sample {
    key: String,
    /// Extension, offset and length in the tar.
    picture: Option<(String, u64, u64)>,
    label: Option<String>,
    domain: Option<String>,
}

/// Lists the samples of `tars`, whose paths are relative to `root`. A sample without an image is
/// ignored.
///
/// # Errors
/// If a tar is damaged, a sample has several images, or its `cls` or `json` cannot be parsed.
pub(crate) fn list(root: &Path, mut tars: Vec<PathBuf>) -> Result<Listing> {
    tars.sort();
    let read = |tar: &PathBuf| {
        let full = root.join(tar);
        let file = File::open(&full).with_context(|| format!("cannot open {}", full.display()))?;
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
                bail!("sample {key} has several images, {first} and {field}, and must have one");
            }
        } else if ["cls", "json"].contains(&field) {
            ensure!(length <= FIELD_BYTES, "{path} has {length} bytes, and may have {FIELD_BYTES}");
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
            let class: i64 = text
                .trim()
                .parse()
                .map_err(|_| anyhow!("the class is {text:?}, and must be a whole number"))?;
            self.label = Some(class.to_string());
            return Ok(());
        }
        let json: Value = serde_json::from_str(text).context("it is not valid JSON")?;
        let named = |name: &str| match json.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        self.domain = named("domain");
        // `cls` has precedence, whichever comes first in the tar.
        self.label = self.label.take().or_else(|| named("label"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cls_has_precedence_over_the_label_in_json_in_either_order() {
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

    #[test]
    fn a_class_that_is_not_a_whole_number_is_shown() {
        let error = Sample::default().describe("cls", "tumour").unwrap_err();
        assert_eq!(format!("{error:#}"), "the class is \"tumour\", and must be a whole number");
    }
}
