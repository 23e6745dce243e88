//! What the reader of a format finds in a folder: one item for each image, with names turned into numbers.

use std::collections::HashMap;
use std::path::PathBuf;

use super::places::{Place, Places};

/// A data set before anything of it is selected.
#[derive(Default)]
pub(crate) struct Listing {
    pub items: Vec<Item>,
    pub domains: Names,
    pub labels: Names,
    /// Official splits, in the order of their publication; empty where there are none.
    pub splits: Vec<String>,
    /// Those of them that are for training.
    pub training: Vec<String>,
    pub places: Places,
}

pub struct Item {
    /// Its unique name, relative to the data set.
    pub path: PathBuf,
    pub domain: usize,
    pub label: Option<usize>,
    pub split: Option<usize>,
    pub place: Place,
    /// Width and height, where they are known without reading the image.
    pub size: Option<(u32, u32)>,
}

/// Names, each with the number of its first use.
#[derive(Default)]
pub(crate) struct Names {
    names: Vec<String>,
    numbers: HashMap<String, usize>,
}

impl Names {
    pub(crate) fn number(&mut self, name: &str) -> usize {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.names
    }

    /// Sorted, whole numbers by their value; returns what each number has become.
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
    /// The order that draws count in: by name, so that neither the file system nor a thread decides.
    pub(crate) fn sort(&mut self) {
        let (domains, labels) = (self.domains.sort(), self.labels.sort());
        for item in &mut self.items {
            item.domain = domains[item.domain];
            item.label = item.label.map(|label| labels[label]);
        }
        self.items.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    }
}
