//! Looking through the models directory, or the store that it is a copy of, now and then: what is
//! new is loaded, what is gone unloaded, what has changed loaded anew. Off unless asked for.
//!
//! It is careful: a directory must be gone twice in a row, since replacing one takes two renames
//! where two directories cannot be exchanged; the default is never unloaded by it; what cannot be
//! listed changes nothing; and a bundle that was refused is tried again only when one of its files
//! has changed, which a copy that is still being made does. Names that begin with a dot are not
//! looked at: a bundle that is being written has one.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::found::{FindError, on_disk};
use super::registry::{LoadLock, path};
use super::{Key, Registry};
use crate::serve::error::Error;
use crate::serve::runtime::cpu;
use restain_bundle::Bundle;

/// What was seen before.
#[derive(Default)]
struct Seen {
    /// Refused bundles, as their files were.
    refused: BTreeMap<Key, Files>,
    missing: BTreeSet<Key>,
    /// Whether the directory could not be listed.
    unreadable: bool,
}

/// Name, size and time of every file of a directory.
type Files = BTreeMap<OsString, (u64, Option<SystemTime>)>;

impl Registry {
    /// Looks every `every`, until dropped.
    pub async fn poll(self: Arc<Self>, every: Duration) {
        let mut seen = Seen::default();
        loop {
            tokio::time::sleep(every).await;
            let look = move |registry: &Self, load_lock: &mut LoadLock| {
                let mut seen = seen;
                registry.look(load_lock, &mut seen);
                Ok(seen)
            };
            // An error is a bug that is logged, or the server's end.
            seen = self.with_load_lock(look).await.unwrap_or_default();
        }
    }

    /// Reads what other replicas added to a shared state every `every`, until dropped.
    pub async fn poll_state(self: Arc<Self>, every: Duration) {
        let styles = Arc::clone(&self.context.styles);
        while styles.is_shared() && !every.is_zero() {
            tokio::time::sleep(every).await;
            let styles = Arc::clone(&styles);
            // An error is the server's end.
            if cpu::blocking(move || styles.refresh()).await.unwrap_or(false) {
                tracing::info!("other replicas added or removed domains or slides");
                self.update_metrics();
            }
        }
    }

    fn look(&self, load_lock: &mut LoadLock, seen: &mut Seen) {
        let bundles = &self.context.bundles;
        let refreshed = bundles.refresh().map_err(FindError::Store);
        let found = match refreshed.and_then(|()| on_disk(bundles.dir())) {
            Ok(found) => found,
            Err(error) => {
                if !seen.unreadable {
                    tracing::warn!(%error, "the models are left as they were last seen");
                }
                seen.unreadable = true;
                return;
            }
        };
        seen.unreadable = false;
        for key in &found {
            self.look_at(load_lock, seen, key);
        }
        let is_gone = |key: &Key| !found.contains(key);
        seen.refused.retain(|key, _| !is_gone(key));
        load_lock.withdrawn.retain(|key, _| !is_gone(key));
        self.states().keys().filter(|key| is_gone(key)).for_each(|key| self.forget(key));
        let gone: BTreeSet<Key> =
            self.models().all().iter().map(|model| model.key()).filter(is_gone).collect();
        for key in gone.intersection(&seen.missing) {
            match self.unload_now(load_lock, |other| other == key, false) {
                Ok(_) => _ = load_lock.withdrawn.remove(key),
                Err(error) => {
                    tracing::debug!(%error, model = %key, "its directory is gone, and it is kept")
                }
            }
        }
        for key in gone.difference(&seen.missing) {
            tracing::info!(model = %key, "its directory is gone");
        }
        seen.missing = gone;
    }

    fn look_at(&self, load_lock: &mut LoadLock, seen: &mut Seen, key: &Key) {
        let path = path(&self.context, key);
        let digest = Bundle::digest_in(&path).ok();
        let is_served = self
            .models()
            .named(&key.to_string())
            .is_some_and(|model| Some(&model.bundle.digest) == digest.as_ref());
        if is_served || (digest.is_some() && load_lock.withdrawn.get(key) == digest.as_ref()) {
            return;
        }
        let files = files(&path);
        if seen.refused.get(key) == Some(&files) {
            return;
        }
        let loaded: Result<_, Error> = self.load_now(load_lock, key);
        match loaded {
            Ok(_) => _ = seen.refused.remove(key),
            // The refusal itself is logged where it is made.
            Err(_) => _ = seen.refused.insert(key.clone(), files),
        }
    }
}

fn files(dir: &Path) -> Files {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let about = entries.filter_map(|entry| {
        let data = entry.metadata().ok()?;
        Some((entry.file_name(), (data.len(), data.modified().ok())))
    });
    about.collect()
}
