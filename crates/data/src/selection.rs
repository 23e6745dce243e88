//! Which images of a data set take part, and how they are read: what a command was told, before anything is opened.
//!
//! A name that the data set does not know is refused: a mistyped held-out image or centre would otherwise be trained on.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::format::Format;
use super::listing::{Item, Listing, Names};

/// Which images of a data set take part, by their paths relative to it, and within which limits they are read.
#[derive(Clone, Debug)]
pub struct Selection {
    pub format: Format,
    /// Just these images; all when empty.
    pub only: Vec<PathBuf>,
    pub exclude: Vec<PathBuf>,
    /// Just these official splits; all when empty.
    pub splits: Vec<String>,
    /// Just these domains; all when empty.
    pub domains: Vec<String>,
    pub exclude_domains: Vec<String>,
    /// Where nothing else is said, the splits that the data set itself means for training.
    pub training_by_default: bool,
    /// Damaged images that are passed over before the work ends.
    pub max_damaged: u64,
    /// Memory for images that are kept decoded.
    pub cache_bytes: u64,
    /// Threads that read and decode; 0 is one a core.
    pub workers: usize,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            only: Vec::new(),
            exclude: Vec::new(),
            splits: Vec::new(),
            domains: Vec::new(),
            exclude_domains: Vec::new(),
            training_by_default: false,
            max_damaged: 100,
            cache_bytes: 4 << 30,
            workers: 0,
        }
    }
}

impl Selection {
    /// The same for training: without a split or images named, an official training split is all that is seen.
    pub fn for_training(self) -> Self {
        Self { training_by_default: self.splits.is_empty() && self.only.is_empty(), ..self }
    }

    /// Keeps what is selected. Returns the names of the splits kept, where splits decided.
    pub(super) fn apply(&self, root: &Path, listing: &mut Listing) -> Result<Vec<String>> {
        self.check_paths(root, &listing.items)?;
        let of_default = if self.training_by_default { &listing.training[..] } else { &[] };
        let splits = if self.splits.is_empty() { of_default } else { &self.splits[..] }.to_vec();
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
        let in_domains = known("domains", &self.domains, listing.domains.all())?;
        let out_domains = known("exclude-domains", &self.exclude_domains, listing.domains.all())?;
        let only: HashSet<&Path> = self.only.iter().map(PathBuf::as_path).collect();
        let exclude: HashSet<&Path> = self.exclude.iter().map(PathBuf::as_path).collect();
        listing.items.retain(|item| {
            (in_splits.is_empty() || item.split.is_some_and(|split| in_splits.contains(&split)))
                && (in_domains.is_empty() || in_domains.contains(&item.domain))
                && !out_domains.contains(&item.domain)
                && (only.is_empty() || only.contains(item.path.as_path()))
                && !exclude.contains(item.path.as_path())
        });
        ensure!(
            !listing.items.is_empty(),
            "nothing of {} is left by --split, --domains, --only and their exclusions",
            root.display()
        );
        Ok(splits)
    }

    /// In words for a log, after the domains.
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
            Some(path) => bail!("{} is no image of {}", path.display(), root.display()),
            None => Ok(()),
        }
    }
}

/// Drops the domains that no item is of.
pub(super) fn present_domains(items: &mut [Item], domains: &Names) -> Vec<String> {
    let present: HashSet<usize> = items.iter().map(|item| item.domain).collect();
    let kept: Vec<usize> =
        (0..domains.all().len()).filter(|domain| present.contains(domain)).collect();
    items.iter_mut().for_each(|item| {
        item.domain = kept.binary_search(&item.domain).expect("a domain of an item is present")
    });
    kept.into_iter().map(|domain| domains.all()[domain].clone()).collect()
}
