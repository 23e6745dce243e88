//! The selection of a data set's images by split, domain and path.
//!
//! A name that the data set does not have is an error: a mistyped held-out image or centre would
//! otherwise be trained on.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use crate::formats::Format;
use crate::formats::manifest::LABEL;
use crate::listing::{Item, Listing, Names};
use crate::passed_over::Reason;

/// Which images of a data set are used, and the limits on reading them. Paths are relative to the
/// data set's root.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The layout on disk.
    pub format: Format,
    /// A table of the images, which takes the place of the layout.
    pub manifest: Option<PathBuf>,
    /// The column of the table that holds labels.
    pub label_column: String,
    /// Use these images only; all if empty.
    pub only: Vec<PathBuf>,
    /// Leave these images out.
    pub exclude: Vec<PathBuf>,
    /// Use these official splits only; all if empty.
    pub splits: Vec<String>,
    /// Use these domains only; all if empty.
    pub domains: Vec<String>,
    /// Leave these domains out.
    pub exclude_domains: Vec<String>,
    /// If `splits` is empty, use the splits that the data set's publishers mean for training.
    pub training_by_default: bool,
    /// The field of a tar's samples that is the image; the only one if it is not named.
    pub image_field: Option<String>,
    /// The options that `domains` and `exclude_domains` come from, for messages.
    pub domain_options: [&'static str; 2],
    /// Damaged images to skip; one more is an error.
    pub max_damaged: u64,
    /// Memory for decoded images, bytes.
    pub cache_bytes: u64,
    /// Where data sets of object stores are copied to; in the user's home if it is not said.
    pub data_cache: Option<PathBuf>,
    /// Threads that read and decode; 0 means one per core.
    pub workers: usize,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            manifest: None,
            label_column: LABEL.to_owned(),
            only: Vec::new(),
            exclude: Vec::new(),
            splits: Vec::new(),
            domains: Vec::new(),
            exclude_domains: Vec::new(),
            training_by_default: false,
            image_field: None,
            domain_options: ["domains", "exclude-domains"],
            max_damaged: 100,
            cache_bytes: 4 << 30,
            data_cache: None,
            workers: 0,
        }
    }
}

impl Selection {
    /// Returns the same selection for training: the official training splits, unless splits or
    /// images are named.
    pub fn for_training(self) -> Self {
        Self { training_by_default: self.splits.is_empty() && self.only.is_empty(), ..self }
    }

    /// Returns whether nothing is left out.
    pub fn is_all(&self) -> bool {
        let Self { only, exclude, splits, domains, exclude_domains, .. } = self;
        let paths = [only, exclude].into_iter().all(Vec::is_empty);
        let names = [splits, domains, exclude_domains].into_iter().all(Vec::is_empty);
        paths && names && !self.training_by_default
    }

    /// Removes the items that are not selected. Returns the names of the selected splits; empty
    /// means all.
    pub(super) fn apply(&self, root: &Path, listing: &mut Listing) -> Result<Vec<String>> {
        self.check_paths(root, &listing.items)?;
        let default = if self.training_by_default { &listing.training[..] } else { &[] };
        let splits = if self.splits.is_empty() { default } else { &self.splits[..] }.to_vec();
        ensure!(
            splits.is_empty() || !listing.splits.is_empty(),
            "--split {}: {} has no official splits",
            splits.join(","),
            root.display()
        );
        let known = |option: &str, asked: &[String], known: &[String]| -> Result<HashSet<usize>> {
            let place = |name: &String| match known.iter().position(|other| other == name) {
                Some(place) => Ok(place),
                None => bail!(
                    "--{option} {name} is not in {}, which has {}",
                    root.display(),
                    known.join(", ")
                ),
            };
            asked.iter().map(place).collect()
        };
        let in_splits = known("split", &splits, &listing.splits)?;
        let [include, exclude] = self.domain_options;
        let in_domains = known(include, &self.domains, listing.domains.all())?;
        let out_domains = known(exclude, &self.exclude_domains, listing.domains.all())?;
        let only: HashSet<&Path> = self.only.iter().map(PathBuf::as_path).collect();
        let exclude: HashSet<&Path> = self.exclude.iter().map(PathBuf::as_path).collect();
        let Listing { items, passed_over, .. } = listing;
        items.retain(|item| {
            let is_chosen = (in_splits.is_empty()
                || item.split.is_some_and(|split| in_splits.contains(&split)))
                && (in_domains.is_empty() || in_domains.contains(&item.domain))
                && !out_domains.contains(&item.domain)
                && (only.is_empty() || only.contains(item.path.as_path()))
                && !exclude.contains(item.path.as_path());
            if !is_chosen {
                passed_over.add(Reason::NotSelected, &item.path);
            }
            is_chosen
        });
        ensure!(
            !listing.items.is_empty(),
            "--split, --{include}, --only and their exclusions select no image of {}",
            root.display()
        );
        Ok(splits)
    }

    /// Describes the splits for a log line, to follow the domains.
    pub(super) fn describe_splits(&self, kept: &[String], all: &[String]) -> String {
        match (kept, all) {
            ([], []) => String::new(),
            ([], all) => format!("; all splits: {}", all.join(", ")),
            (kept, _) if self.splits.is_empty() => {
                format!("; official split {} by default, --split names others", kept.join(", "))
            }
            (kept, _) => format!("; split {}", kept.join(", ")),
        }
    }

    fn check_paths(&self, root: &Path, items: &[Item]) -> Result<()> {
        let mut unseen: HashSet<&Path> =
            self.only.iter().chain(&self.exclude).map(PathBuf::as_path).collect();
        if !unseen.is_empty() {
            items.iter().for_each(|item| _ = unseen.remove(item.path.as_path()));
        }
        match unseen.into_iter().min() {
            Some(path) => bail!("{} is not an image of {}", path.display(), root.display()),
            None => Ok(()),
        }
    }
}

/// Removes the domains without items and renumbers the others. Returns their names.
pub(super) fn present_domains(items: &mut [Item], domains: &Names) -> Vec<String> {
    let present: HashSet<usize> = items.iter().map(|item| item.domain).collect();
    let kept: Vec<usize> =
        (0..domains.all().len()).filter(|domain| present.contains(domain)).collect();
    items.iter_mut().for_each(|item| {
        item.domain = kept.binary_search(&item.domain).expect("a domain of an item is present")
    });
    kept.into_iter().map(|domain| domains.all()[domain].clone()).collect()
}
