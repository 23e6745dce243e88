//! What was added, by the digest of the bundle it belongs to; in memory, and in a directory or in
//! an object store when `--state` names one.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::added::{Added, Keeper, Object};
use super::{Bank, file};
use crate::serve::metrics::Metrics;
use restain_bundle::StyleBank;
use restain_store::{Place, Remote, StoreError};

/// Where added styles and slides lie within the state.
const STYLES: &str = "styles";
const SLIDES: &str = "slides";

/// Everything that was added to any bundle.
pub struct Store {
    state: State,
    forbidden: Arc<[String]>,
    metrics: Arc<Metrics>,
    /// One for each digest ever loaded: a bundle that is unloaded and loaded again finds what it
    /// had.
    added: Mutex<HashMap<String, Kept>>,
}

/// What `--state` names.
enum State {
    Memory,
    Directory {
        path: PathBuf,
        /// Held for its lock: two servers would write over each other's files.
        _lock: File,
    },
    Remote(Remote),
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state directory {} cannot be used: {source}", .path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("the state cannot be used: {0}")]
    Remote(#[from] StoreError),
}

/// The styles and the slides that were added to one bundle.
#[derive(Clone)]
struct Kept {
    styles: Arc<Added>,
    slides: Arc<Added>,
}

impl Store {
    /// Keeps what is added in `state`: a directory, which is made when it is not there, or a store,
    /// which is asked whether it can be read; without one, in memory alone. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be made or listed, or another server uses it; when the store
    /// cannot be reached, or refuses.
    pub fn open(
        state: Option<&Place>,
        forbidden: &[String],
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, StateError> {
        let state = match state {
            None => State::Memory,
            Some(Place::Here(path)) => {
                let unusable = |source| StateError::Directory { path: path.clone(), source };
                let lock = lock(path).map_err(unusable)?;
                for kind in [STYLES, SLIDES] {
                    file::prepare(&path.join(kind)).map_err(unusable)?;
                }
                State::Directory { path: path.clone(), _lock: lock }
            }
            Some(Place::Remote(location)) => {
                let remote = Remote::open(location)?;
                remote.list()?;
                State::Remote(remote)
            }
        };
        let (forbidden, added) = (forbidden.into(), Mutex::default());
        Ok(Arc::new(Self { state, forbidden, metrics, added }))
    }

    /// The bank of a bundle that is being loaded: its own styles, each of `half` numbers, and what
    /// was added to it. Blocks.
    pub fn bank(&self, digest: &str, half: usize, own: StyleBank) -> Bank {
        let mut added = self.added.lock().expect("no code panics while it holds this lock");
        let open = |kind: &str, forbidden: &Arc<[String]>| {
            let name = format!("{digest}.safetensors");
            let keeper = match &self.state {
                State::Memory => Keeper::Memory,
                State::Directory { path, .. } => Keeper::File(path.join(kind).join(name)),
                State::Remote(remote) => Keeper::Object(Object {
                    remote: remote.clone(),
                    name: format!("{kind}/{name}"),
                    metrics: Arc::clone(&self.metrics),
                    is_away: AtomicBool::new(false),
                }),
            };
            Arc::new(Added::open(keeper, half, forbidden))
        };
        let open = || Kept {
            styles: open(STYLES, &self.forbidden),
            slides: open(SLIDES, &Arc::default()),
        };
        let Kept { styles, slides } = added.entry(digest.to_owned()).or_insert_with(open).clone();
        Bank::new(own, styles, slides, Arc::clone(&self.forbidden))
    }

    /// Whether replicas may have added what this one does not know yet.
    pub fn is_shared(&self) -> bool {
        matches!(self.state, State::Remote(_))
    }

    /// Reads what other replicas have added, and says whether there was anything. Blocks.
    pub fn refresh(&self) -> bool {
        let kept: Vec<Kept> = {
            let added = self.added.lock().expect("no code panics while it holds this lock");
            added.values().cloned().collect()
        };
        let mut changed = false;
        for Kept { styles, slides } in kept {
            changed |= styles.refresh() | slides.refresh();
        }
        changed
    }
}

/// Locks the directory for as long as the file is open.
fn lock(state_dir: &Path) -> io::Result<File> {
    std::fs::create_dir_all(state_dir)?;
    let file = File::create(state_dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another server uses it")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_servers() {
        let dir = tempfile::tempdir().unwrap();
        let (place, metrics) = (dir.path().to_owned().into(), Arc::new(Metrics::new().unwrap()));
        let open = || Store::open(Some(&place), &[], Arc::clone(&metrics));
        let first = open().unwrap();
        let second = open().err().unwrap();
        assert!(second.to_string().contains("another server"), "{second}");
        drop(first);
        assert!(open().is_ok());
    }
}
