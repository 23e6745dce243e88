//! The styles that were added to one bundle while the server runs: in memory, and in a file or in
//! an object of a store when there is a `--state`.
//!
//! An object is shared by all replicas. It is only ever written over the version that was read, so
//! that of two replicas that add at once neither loses what the other added; what others added is
//! read by [`Added::refresh`].

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::file;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::metrics::Metrics;
use restain_bundle::StyleBank;
use restain_store::{Newer, Remote, StoreError, Version};

/// How often a change is made anew because another replica's came first. Each is one round trip.
const MOST_TRIES: u32 = 20;
/// Wait before the second try; the third waits twice as long, and so on.
const WAIT: Duration = Duration::from_millis(10);
/// The store of `--state`, as metrics name it.
const STATE_STORE: &str = "state";

/// What was added to one bundle.
pub(super) struct Added {
    keeper: Keeper,
    half: usize,
    /// All of it, as it was kept last. Locked while it is written, which makes changes one at a
    /// time.
    kept: Mutex<Kept>,
    /// What of it may be used.
    offered: ArcSwap<StyleBank>,
    forbidden: Arc<[String]>,
}

/// What keeps it for the next process, or for other replicas.
pub(super) enum Keeper {
    Memory,
    File(PathBuf),
    Object(Object),
}

/// An object of a store.
pub(super) struct Object {
    pub remote: Remote,
    pub name: String,
    pub metrics: Arc<Metrics>,
    /// Whether the last look at it failed: of a store that stays away the log has one line.
    pub is_away: AtomicBool,
}

pub(super) struct Kept {
    pub bank: StyleBank,
    /// Of the object that was read or written last.
    version: Option<Version>,
}

impl Added {
    pub(super) fn open(keeper: Keeper, half: usize, forbidden: &Arc<[String]>) -> Self {
        let bank = match &keeper {
            Keeper::File(path) => file::read(path, half),
            Keeper::Memory | Keeper::Object(_) => StyleBank::default(),
        };
        let forbidden = Arc::clone(forbidden);
        let offered = ArcSwap::from_pointee(allowed(&bank, &forbidden));
        let kept = Mutex::new(Kept { bank, version: None });
        let added = Self { keeper, half, kept, offered, forbidden };
        // What cannot be read now is read by a later refresh.
        added.refresh();
        added
    }

    pub(super) fn is_persistent(&self) -> bool {
        !matches!(self.keeper, Keeper::Memory)
    }

    pub(super) fn offered(&self) -> Arc<StyleBank> {
        self.offered.load_full()
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no code panics while it holds this lock")
    }

    /// Puts `change` of what is kept in its place: kept first, then visible to requests. `change`
    /// is asked again when another replica was faster.
    pub(super) fn change(
        &self,
        mut change: impl FnMut(&StyleBank) -> Result<StyleBank, Error>,
    ) -> Result<(), Error> {
        let mut kept = self.kept();
        for tried in 0..MOST_TRIES {
            let next = sorted(&change(&kept.bank)?);
            match self.write(&next, kept.version.as_ref()) {
                Ok(Written::Done(version)) => {
                    self.install(&mut kept, next, version);
                    return Ok(());
                }
                Ok(Written::TooLate) => {
                    std::thread::sleep(WAIT * tried);
                    self.reread(&mut kept)?;
                }
                Err(said) => return Err(not_written(&said)),
            }
        }
        Err(not_written("other replicas change it all the time"))
    }

    /// Reads what other replicas have added, and says whether there was anything. Blocks.
    pub(super) fn refresh(&self) -> bool {
        let Keeper::Object(object) = &self.keeper else { return false };
        let known = self.kept().version.clone();
        let newer = self.newer(object, known.as_ref());
        let was_away = object.is_away.swap(newer.is_err(), Ordering::Relaxed);
        let mut kept = self.kept();
        match newer {
            Ok(Some((bank, version))) if kept.version == known => {
                let changed = kept.bank != bank;
                self.install(&mut kept, bank, version);
                changed
            }
            // Nothing, or a change was made here meanwhile, which read it.
            Ok(_) => false,
            Err(error) => {
                object.metrics.store_failed(STATE_STORE);
                if !was_away {
                    tracing::warn!(error, "what other replicas added cannot be read");
                }
                false
            }
        }
    }

    fn reread(&self, kept: &mut Kept) -> Result<(), Error> {
        let Keeper::Object(object) = &self.keeper else { return Ok(()) };
        match self.newer(object, kept.version.as_ref()) {
            Ok(Some((bank, version))) => {
                self.install(kept, bank, version);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(said) => Err(not_written(&said)),
        }
    }

    /// The object, if it is another one than `known`; an empty bank when it is gone.
    fn newer(
        &self,
        object: &Object,
        known: Option<&Version>,
    ) -> Result<Option<(StyleBank, Option<Version>)>, String> {
        let said = |error: StoreError| error.to_string();
        match object.remote.get_newer(&object.name, known).map_err(said)? {
            Newer::Same => Ok(None),
            Newer::Gone => Ok(known.is_some().then(|| (StyleBank::default(), None))),
            Newer::Changed(bytes, version) => {
                let bank = StyleBank::from_bytes(&bytes, self.half).map_err(|error| {
                    let place = object.remote.location().join(&object.name);
                    format!("{place} is no style bank of this model, and is left as it is: {error}")
                })?;
                Ok(Some((bank, Some(version))))
            }
        }
    }

    fn write(&self, bank: &StyleBank, known: Option<&Version>) -> Result<Written, String> {
        match &self.keeper {
            Keeper::Memory => Ok(Written::Done(None)),
            Keeper::File(path) => {
                let written = file::write(path, bank, self.half);
                written.map(|()| Written::Done(None)).map_err(|error| {
                    tracing::error!(path = %path.display(), %error, "the style bank cannot be \
                        kept");
                    "it could not be written into the state directory".to_owned()
                })
            }
            Keeper::Object(object) => {
                let bytes = bank.to_bytes(self.half).map_err(|error| error.to_string())?;
                match object.remote.put_if(&object.name, bytes, known) {
                    Ok(Some(version)) => Ok(Written::Done(Some(version))),
                    Ok(None) => Ok(Written::TooLate),
                    Err(error) => {
                        object.metrics.store_failed(STATE_STORE);
                        tracing::error!(%error, "the style bank cannot be kept");
                        Err("it could not be written into the store of --state".to_owned())
                    }
                }
            }
        }
    }

    fn install(&self, kept: &mut Kept, bank: StyleBank, version: Option<Version>) {
        self.offered.store(Arc::new(allowed(&bank, &self.forbidden)));
        *kept = Kept { bank, version };
    }
}

enum Written {
    Done(Option<Version>),
    /// Another replica has written meanwhile.
    TooLate,
}

fn not_written(why: &str) -> Error {
    Error::new(ErrorKind::StateNotWritten, format!("the change was not made: {why}"))
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
