//! The styles that were added to one bundle while the server runs: in memory, and in a file when
//! there is a state directory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;

use super::file;
use crate::serve::error::{Error, ErrorKind};
use restain_bundle::StyleBank;

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

impl Added {
    pub(super) fn open(path: Option<PathBuf>, half: usize, forbidden: &Arc<[String]>) -> Self {
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
