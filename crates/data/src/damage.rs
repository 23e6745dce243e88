//! Images that cannot be decoded: they are logged, counted and left out, up to a limit.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use rayon::prelude::*;

use crate::listing::Item;
use crate::places::Places;

/// The number of images that could not be decoded, and its limit.
pub(crate) struct Damage {
    pub count: AtomicU64,
    pub limit: u64,
}

impl Damage {
    /// Counts and logs one damaged image; an error if there are more than the limit.
    pub(crate) fn add(&self, error: &anyhow::Error) -> Result<()> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        ensure!(
            count <= self.limit,
            "{error:#}: damaged images so far: {count}, and --max-damaged is {}",
            self.limit
        );
        tracing::warn!("skipped: {error:#} (damaged so far: {count})");
        Ok(())
    }
}

/// Reads the sizes that the format does not state from the headers. Counts an image whose header
/// cannot be read as damaged, and removes it.
pub(crate) fn measure_sizes(items: &mut Vec<Item>, places: &Places, damage: &Damage) -> Result<()> {
    items.par_iter_mut().filter(|item| item.size.is_none()).try_for_each(|item| {
        match places.size(&item.path, item.place) {
            Ok(size) => {
                item.size = Some(size);
                Ok(())
            }
            Err(error) => {
                damage.add(&error.context(format!(
                    "{} cannot be decoded",
                    places.root.join(&item.path).display()
                )))
            }
        }
    })?;
    items.retain(|item| item.size.is_some());
    Ok(())
}
