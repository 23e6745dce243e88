//! What was added, by the digest of the bundle it belongs to; in memory, and in a directory when
//! there is one.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;

use super::{Bank, file};
use crate::serve::error::{Error, ErrorKind};
use restain_bundle::StyleBank;

/// Where the files of the style bank lie within the state directory.
const STYLES: &str = "styles";

/// Everything that was added to any bundle.
pub struct Store {
    dir: Option<PathBuf>,
    forbidden: Arc<[String]>,
    /// One for each digest ever loaded: a bundle that is unloaded and loaded again finds what it
    /// had.
    added: Mutex<HashMap<String, Arc<Added>>>,
}

/// What was added to one bundle.
pub(super) struct Added {
    path: Option<PathBuf>,
    half: usize,
    /// All of it, as it is in the file. Locked while the file is written, which makes changes one
    /// at a time.
    kept: Mutex<StyleBank>,
    /// What of it may be used.
    offered: ArcSwap<StyleBank>,
    forbidden: Arc<[String]>,
}

impl Store {
    /// Keeps what is added in `state_dir`, which is made when it is not there; without one, in
    /// memory alone.
    ///
    /// # Errors
    /// When the directory cannot be made or listed.
    pub fn open(state_dir: Option<&Path>, forbidden: &[String]) -> io::Result<Arc<Self>> {
        let dir = state_dir.map(|dir| dir.join(STYLES));
        if let Some(dir) = &dir {
            file::prepare(dir)?;
        }
        Ok(Arc::new(Self { dir, forbidden: forbidden.into(), added: Mutex::default() }))
    }

    /// The bank of a bundle that is being loaded: its own styles, each of `half` numbers, and what
    /// was added to it. Blocks.
    pub fn bank(&self, digest: &str, half: usize, own: StyleBank) -> Bank {
        let mut added = self.added.lock().expect("no code panics while it holds this lock");
        let open = || {
            Arc::new(Added::open(
                self.dir.as_ref().map(|dir| dir.join(format!("{digest}.safetensors"))),
                half,
                &self.forbidden,
            ))
        };
        let added = added.entry(digest.to_owned()).or_insert_with(open);
        Bank::new(own, Arc::clone(added), Arc::clone(&self.forbidden))
    }
}

impl Added {
    fn open(path: Option<PathBuf>, half: usize, forbidden: &Arc<[String]>) -> Self {
        let kept = path.as_deref().map(|path| file::read(path, half)).unwrap_or_default();
        let forbidden = Arc::clone(forbidden);
        let offered = ArcSwap::from_pointee(allowed(&kept, &forbidden));
        Self { path, half, kept: Mutex::new(kept), offered, forbidden }
    }

    pub(super) fn is_persistent(&self) -> bool {
        self.path.is_some()
    }

    pub(super) fn offered(&self) -> Arc<StyleBank> {
        self.offered.load_full()
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, StyleBank> {
        self.kept.lock().expect("no code panics while it holds this lock")
    }

    /// Puts `change` of what is kept in its place: on the disk first, then visible to requests.
    pub(super) fn change(
        &self,
        change: impl FnOnce(&StyleBank) -> Result<StyleBank, Error>,
    ) -> Result<(), Error> {
        let mut kept = self.kept();
        let next = sorted(&change(&kept)?);
        if let Some(path) = &self.path {
            file::write(path, &next, self.half).map_err(|error| {
                tracing::error!(path = %path.display(), %error, "the style bank cannot be kept");
                Error::new(
                    ErrorKind::StateNotWritten,
                    "the change could not be written into the state directory, and was not made",
                )
            })?;
        }
        self.offered.store(Arc::new(allowed(&next, &self.forbidden)));
        *kept = next;
        Ok(())
    }
}

fn allowed(bank: &StyleBank, forbidden: &[String]) -> StyleBank {
    only(bank, |domain| !forbidden.iter().any(|forbidden| forbidden == domain))
}

/// The styles of some domains, with the ids they had.
pub(super) fn only(bank: &StyleBank, keep: impl Fn(&str) -> bool) -> StyleBank {
    let mut kept = StyleBank::default();
    for entry in bank.entries.iter().filter(|entry| keep(&bank.domains[entry.domain])) {
        kept.push(&bank.domains[entry.domain], entry.style.clone(), entry.source);
    }
    kept
}

/// Domains in the order of their names: what a request that names several draws must not depend on
/// which was added first.
fn sorted(bank: &StyleBank) -> StyleBank {
    let mut domains: Vec<&String> = bank.domains.iter().collect();
    domains.sort();
    let mut sorted = StyleBank::default();
    for domain in domains {
        for entry in bank.entries.iter().filter(|entry| bank.domains[entry.domain] == *domain) {
            sorted.push(domain, entry.style.clone(), entry.source);
        }
    }
    sorted
}
