//! WebDataset tars, read at random. Each sample has one image, and its label as the text of `cls`
//! or as `label` in `json`. Its domain is `domain` in `json`, or else the folder of the tar.
//!
//! Listing reads the headers of the tars and the small fields `cls` and `json`; images are read
//! when they are drawn. How members become samples is in [`crate::samples`].

use std::collections::HashSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rayon::prelude::*;
use restain_bundle::codec::split_name;
use serde_json::Value;

use super::folders::NO_DOMAIN;
use crate::Selection;
use crate::lenient_json;
use crate::listing::{Item, Listing};
use crate::passed_over::PassedOver;
use crate::places::Place;
use crate::samples::{self, Content, NoTile, Sample, read_samples};

/// What is read of samples that are listed.
const DESCRIBING: Content = Content::Fields(&["cls", "json"]);

/// What one tar holds.
#[derive(Default)]
struct Listed {
    samples: Vec<Described>,
    without_image: Vec<String>,
    passed_over: PassedOver,
}

/// A sample with an image.
#[derive(Default)]
struct Described {
    key: String,
    /// The field of the image, and where its bytes lie.
    field: String,
    offset: u64,
    length: u64,
    label: Option<String>,
    domain: Option<String>,
}

/// Lists the samples of tars, each given with the path that it has in the data set, in the order of
/// these.
///
/// # Errors
/// If a tar is damaged, a sample has several images, or its `cls` or `json` cannot be parsed.
pub(crate) fn list(tars: &[(PathBuf, PathBuf)], image_field: Option<&str>) -> Result<Listing> {
    let read = |(path, _): &(PathBuf, PathBuf)| {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let listed = describe(path, image_field).with_context(|| path.display().to_string())?;
        Ok((file, listed))
    };
    let read: Vec<(File, Listed)> = tars.par_iter().map(read).collect::<Result<_>>()?;
    let mut listing = Listing::default();
    for (number, ((_, tar), (file, listed))) in tars.iter().zip(read).enumerate() {
        let folder =
            tar.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let folder = folder.unwrap_or_else(|| NO_DOMAIN.into());
        listing.places.tars.push(file);
        listing.passed_over.merge(listed.passed_over);
        let named = listed.without_image.iter().map(|said| format!("{}/{said}", tar.display()));
        listing.without_image.extend(named);
        for sample in listed.samples {
            let Described { key, field, offset, length, label, domain } = sample;
            listing.items.push(Item {
                domain: listing.domains.number(domain.as_ref().unwrap_or(&folder)),
                label: label.map(|label| listing.labels.number(&label)),
                place: Place::Entry { tar: number, offset, length },
                ..Item::file(tar.join(format!("{key}.{field}")))
            });
        }
    }
    Ok(listing)
}

/// Returns the keys of the samples of each tar that a selection leaves out. Of a tar is given where
/// it lies, and its path in the data set.
///
/// # Errors
/// If a tar or one of its samples cannot be read, or the selection names what is not there.
pub fn unselected_samples(
    tars: &[(PathBuf, PathBuf)],
    selection: &Selection,
) -> Result<Vec<HashSet<String>>> {
    let mut listing = list(tars, selection.image_field.as_deref())?;
    let place = |item: &Item| match item.place {
        Place::Entry { tar, .. } => tar,
        _ => unreachable!("the samples of a tar are entries"),
    };
    let all: Vec<(usize, PathBuf)> =
        listing.items.iter().map(|item| (place(item), item.path.clone())).collect();
    selection.apply(Path::new("IN"), &mut listing)?;
    let chosen: HashSet<PathBuf> = listing.items.into_iter().map(|item| item.path).collect();
    let mut unselected = vec![HashSet::new(); tars.len()];
    for (tar, path) in all.into_iter().filter(|(_, path)| !chosen.contains(path)) {
        let within = path.strip_prefix(&tars[tar].1).expect("it lies in its tar");
        let within = within.to_str().expect("names of members are UTF-8");
        let (key, _) = split_name(within).expect("a sample has a key and a field");
        unselected[tar].insert(key.to_owned());
    }
    Ok(unselected)
}

fn describe(tar: &Path, image_field: Option<&str>) -> Result<Listed> {
    let mut listed = Listed::default();
    let (mut samples, mut without_image) = (Vec::new(), Vec::new());
    let ended = read_samples(tar, DESCRIBING, &mut listed.passed_over, &mut |item, _| {
        let samples::Item::Sample(sample) = item else { return ControlFlow::Continue(()) };
        match Described::of(&sample, image_field) {
            Ok(Ok(described)) => samples.push(described),
            Ok(Err(reason)) => without_image.push(format!("{} {reason}", sample.key)),
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    });
    (listed.samples, listed.without_image) = (samples, without_image);
    match ended {
        Ok(ControlFlow::Continue(())) => Ok(listed),
        Ok(ControlFlow::Break(error)) => Err(error),
        Err(said) => Err(anyhow!(said)),
    }
}

impl Described {
    /// Describes a sample; in words, why it has no image.
    fn of(sample: &Sample, image_field: Option<&str>) -> Result<Result<Self, String>> {
        let place = match sample.tile(image_field) {
            Ok(place) => place,
            Err(NoTile::None(reason)) => return Ok(Err(reason)),
            Err(several) => return Err(anyhow!("sample {} {several}", sample.key)),
        };
        let image = &sample.fields[place];
        let mut described = Self {
            key: sample.key.clone(),
            field: image.name.clone(),
            offset: image.offset,
            length: image.length,
            ..Self::default()
        };
        for field in &sample.fields {
            let name = || format!("{}.{}", sample.key, field.name);
            let kind = field.name.to_ascii_lowercase();
            if ["cls", "json"].contains(&&kind[..]) {
                let text = std::str::from_utf8(&field.bytes)
                    .with_context(|| format!("{} is not UTF-8", name()))?;
                described.add(&kind, text).with_context(name)?;
            }
        }
        Ok(Ok(described))
    }

    fn add(&mut self, field: &str, text: &str) -> Result<()> {
        if field == "cls" {
            let class: i64 = text
                .trim()
                .parse()
                .map_err(|_| anyhow!("the class is {text:?}, and must be a whole number"))?;
            self.label = Some(class.to_string());
            return Ok(());
        }
        let json = lenient_json::parse(text).context("it is not valid JSON")?;
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
            let mut sample = Described::default();
            for field in fields {
                let text =
                    if field == "cls" { "7\n" } else { r#"{"label": "seven", "domain": "d"}"# };
                sample.add(field, text).unwrap();
            }
            assert_eq!((sample.label.as_deref(), sample.domain.as_deref()), (Some("7"), Some("d")));
        }
    }

    #[test]
    fn a_class_that_is_not_a_whole_number_is_shown() {
        let error = Described::default().add("cls", "tumour").unwrap_err();
        assert_eq!(format!("{error:#}"), "the class is \"tumour\", and must be a whole number");
    }
}
