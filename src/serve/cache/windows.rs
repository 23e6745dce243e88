//! The windows of large tiles, which are held while anyone puts them together.
//!
//! Requests for one tile share the encodings of its windows, by keys of their own. Once the whole
//! is held nobody looks for them, except a request that looked for the whole before: so they stay
//! until the last of those who may want them has left.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{CacheKey, Scope};
use crate::serve::batch::Shelf as _;
use restain_bundle::codec::TileKey;

/// How many requests want the windows of a tile.
#[derive(Debug, Default)]
pub(super) struct Wanting(Mutex<HashMap<CacheKey, usize>>);

impl Wanting {
    fn count<T>(&self, count: impl FnOnce(&mut HashMap<CacheKey, usize>) -> T) -> T {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request's want of the windows of a tile; dropped when it needs them no longer.
pub(crate) struct Wanted {
    scope: Scope,
    /// Of the first window, which stands for all.
    first: CacheKey,
    windows: Vec<TileKey>,
}

impl Scope {
    /// Holds windows, at least one, until all who want them have dropped what this returns.
    pub(crate) fn want(&self, windows: Vec<TileKey>) -> Wanted {
        let first = self.key(&windows[0]);
        self.cache.wanting.count(|counts| *counts.entry(first).or_default() += 1);
        Wanted { scope: self.clone(), first, windows }
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let is_last = self.scope.cache.wanting.count(|counts| {
            let left = counts.get_mut(&self.first).expect("it was counted");
            *left -= 1;
            let is_last = *left == 0;
            if is_last {
                counts.remove(&self.first);
            }
            is_last
        });
        if is_last {
            // Of a whole that was held there are none; where there is a disk, forgetting is work.
            let held = self.windows.iter().filter(|key| self.scope.peek(key).is_some());
            held.for_each(|key| self.scope.forget(key));
        }
    }
}
