//! What a listing passes over, counted by reason: nothing is left out in silence.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::Dataset;

/// Why something in a data set is no tile of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The selection leaves it out.
    NotSelected,
    /// Its name, or that of a folder above it, begins with a dot.
    Hidden,
    /// A whole slide.
    Slide,
    /// A file without the ending of an image.
    NoImage,
    /// A link to one of the folders that it lies in.
    LinkLoop,
    /// A tar, where images are read.
    Tar,
    /// An image, where tars are read.
    Image,
    /// A file in a tar that belongs to no sample.
    NoSample,
    /// A link, device or pipe in a tar or a folder.
    NoFile,
}

impl Reason {
    fn label(self) -> &'static str {
        match self {
            Self::NotSelected => "not selected",
            Self::Hidden => "hidden",
            Self::Slide => "whole slides, to be cut into tiles first",
            Self::NoImage => "no images by their names",
            Self::LinkLoop => "links to a folder above them",
            Self::Tar => "tars beside images",
            Self::Image => "images beside tars",
            Self::NoSample => "in tars, but of no sample",
            Self::NoFile => "no regular files",
        }
    }
}

/// How many were passed over for each reason, with the first of them by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    counts: BTreeMap<Reason, (u64, PathBuf)>,
}

impl PassedOver {
    /// Counts one.
    pub fn add(&mut self, reason: Reason, name: &Path) {
        self.add_several(reason, 1, name);
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: Self) {
        for (reason, (count, name)) in other.counts {
            self.add_several(reason, count, &name);
        }
    }

    /// Returns the count of a reason.
    pub fn count(&self, reason: Reason) -> u64 {
        self.counts.get(&reason).map_or(0, |(count, _)| *count)
    }

    /// Returns whether nothing was passed over.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    fn add_several(&mut self, reason: Reason, count: u64, name: &Path) {
        let (sum, first) = self.counts.entry(reason).or_insert_with(|| (0, name.to_owned()));
        *sum += count;
        // The smallest name, whatever the order in which threads come across them.
        if name < first.as_path() {
            *first = name.to_owned();
        }
    }
}

impl Dataset {
    /// Says what was left out so far, by reason: damaged images, and what was passed over when the
    /// data set was listed. Returns nothing if nothing was.
    pub fn left_out(&self) -> Option<String> {
        let damaged = match self.damaged() {
            0 => None,
            damaged => Some(format!("damaged or without an image {damaged}")),
        };
        let passed_over = (!self.passed_over.is_empty()).then(|| self.passed_over.to_string());
        let said: Vec<String> = damaged.into_iter().chain(passed_over).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// `passed over: hidden 2 (for example a/._b.png); not selected 9 (for example a/c.png)`
impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (reason, (count, name))) in self.counts.iter().enumerate() {
            let before = if place == 0 { "passed over: " } else { "; " };
            let (label, name) = (reason.label(), name.display());
            write!(f, "{before}{label} {count} (for example {name})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stand_by_reason_with_the_smallest_name_of_each() {
        let mut some = PassedOver::default();
        assert_eq!((some.is_empty(), some.to_string()), (true, String::new()));
        some.add(Reason::Hidden, Path::new("b/.x"));
        let mut others = PassedOver::default();
        others.add(Reason::Hidden, Path::new("a/.x"));
        others.add(Reason::Slide, Path::new("s.svs"));
        some.merge(others);
        assert_eq!((some.count(Reason::Hidden), some.count(Reason::Tar)), (2, 0));
        let said = "passed over: hidden 2 (for example a/.x); whole slides, to be cut into tiles \
                    first 1 (for example s.svs)";
        assert_eq!(some.to_string(), said);
    }
}
