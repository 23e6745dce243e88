//! What the reader of a format returns: one item for each image, with the names of domains, labels
//! and splits as numbers.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::passed_over::PassedOver;
use crate::places::{Place, Places};

/// All images of a data set, before any are selected.
#[derive(Default)]
pub(crate) struct Listing {
    pub items: Vec<Item>,
    pub domains: Names,
    pub labels: Names,
    /// Official splits, in the order of their publication; empty if the data set has none.
    pub splits: Vec<String>,
    /// The official splits that are meant for training.
    pub training: Vec<String>,
    pub places: Places,
    /// What is no image of the data set.
    pub passed_over: PassedOver,
    /// Samples without an image, in words.
    pub without_image: Vec<String>,
}

/// One image of a [`Listing`].
pub(crate) struct Item {
    /// Unique, relative to the root of the data set.
    pub path: PathBuf,
    pub domain: usize,
    pub label: Option<usize>,
    pub split: Option<usize>,
    /// The slide that it is from, if a table names it; unique within its domain.
    pub slide: Option<Box<str>>,
    pub place: Place,
    /// Width and height in pixels, if they are known without reading the image.
    pub size: Option<(u32, u32)>,
    /// Place among the items in the order in which they were read: the row of a table.
    pub number: u32,
}

impl Item {
    /// Returns an image that is a file of its own, of the first domain, about which nothing else is
    /// known.
    pub(crate) fn file(path: PathBuf) -> Self {
        let place = Place::File;
        let (label, split, slide) = (None, None, None);
        Self { path, domain: 0, label, split, slide, place, size: None, number: 0 }
    }
}

/// Names, numbered in the order of their first use.
#[derive(Default)]
pub(crate) struct Names {
    names: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Names {
    /// Returns the number of a name, a new one at its first use.
    pub(crate) fn number(&mut self, name: &str) -> usize {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    /// Returns all names; the place of each is its number.
    pub(crate) fn all(&self) -> &[String] {
        &self.names
    }

    /// Sorts the names, by value if all are whole numbers. Returns the new number of each old one.
    fn sort(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        match self.names.iter().map(|name| name.parse::<i64>().ok()).collect::<Option<Vec<_>>>() {
            Some(values) => order.sort_by_key(|&number| values[number]),
            None => order.sort_by(|&a, &b| self.names[a].cmp(&self.names[b])),
        }
        self.names = order.iter().map(|&number| std::mem::take(&mut self.names[number])).collect();
        self.numbers = self.names.iter().cloned().zip(0..).collect();
        let mut became = vec![0; order.len()];
        order.into_iter().enumerate().for_each(|(new, old)| became[old] = new);
        became
    }
}

impl Listing {
    /// Sorts items, domains and labels by name, so that draws depend neither on the file system nor
    /// on threads.
    pub(crate) fn sort(&mut self) {
        let (domains, labels) = (self.domains.sort(), self.labels.sort());
        for item in &mut self.items {
            item.domain = domains[item.domain];
            item.label = item.label.map(|label| labels[label]);
        }
        self.items.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    }
}
