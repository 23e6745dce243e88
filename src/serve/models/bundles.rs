//! Where the bundles lie that are served: a directory of this machine; or an object store, of which
//! such a directory is a copy.
//!
//! A copy has the bundles of the store as NAME/VERSION, each verified and put in its place in one
//! step, so that readers of the directory need not know where it comes from. A bundle whose
//! digest is there already is not fetched again: a server starts from its copy, and may do so while
//! the store is away.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::Key;
use super::found::{FindError, on_disk, pick_of};
use super::version::in_order;
use crate::serve::error::{Error, ErrorKind, with_causes};
use crate::serve::metrics::Metrics;
use restain_bundle::{Bundle, BundleError, MANIFEST_FILE, Manifest, is_plain_name, receive};
use restain_store::{Object, Place, Remote, StoreError, user_cache};

/// Where bundles are served from.
pub struct Bundles {
    dir: PathBuf,
    origin: Option<Origin>,
}

/// The store of `--models`, as metrics name it.
const MODELS_STORE: &str = "models";

/// The store that the directory is a copy of.
struct Origin {
    remote: Remote,
    metrics: Arc<Metrics>,
    /// Only this one is copied, or the highest version of this name.
    only: Option<String>,
    /// The objects of each bundle, as they were when it was last copied or refused: one that is
    /// still being uploaded is tried again with each file that comes.
    seen: Mutex<BTreeMap<Key, Vec<Object>>>,
}

/// Why a bundle of a store could not be copied.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("{0}")]
    Written(#[from] io::Error),
}

impl Bundles {
    /// Opens the place of `--models`, and copies what lies in a store into a directory below
    /// `cache`. With `only_one`, nothing is copied but the bundle that `asked` names. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read and nothing was copied from it before.
    pub(super) fn open(
        models: &Place,
        cache: Option<&Path>,
        only_one: Option<Option<&str>>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, FindError> {
        let location = match models {
            Place::Here(dir) => return Ok(Self { dir: dir.clone(), origin: None }),
            Place::Remote(location) => location,
        };
        let cache = cache.map(Path::to_owned).or_else(|| user_cache("models"));
        let dir = cache.ok_or(FindError::NoCache)?.join(location.folder_name());
        fs::create_dir_all(&dir)
            .map_err(|source| FindError::Unreadable { path: dir.clone(), source })?;
        let remote = Remote::open(location).map_err(FindError::Store)?;
        let bundles = Self { dir, origin: None };
        let (metrics, seen) = (Arc::clone(metrics), Mutex::default());
        let mut origin = Origin { remote, metrics, only: None, seen };
        let refreshed = (|| {
            if let Some(asked) = only_one {
                let keys: Vec<Key> =
                    origin.found().map_err(FindError::Store)?.into_keys().collect();
                let place = PathBuf::from(location.to_string());
                origin.only = Some(pick_of(&in_order(keys), asked, &place)?.to_string());
            }
            origin.copy(&bundles.dir).map_err(FindError::Store)
        })();
        match refreshed {
            Ok(()) => {}
            Err(FindError::Store(error)) if !on_disk(&bundles.dir)?.is_empty() => {
                tracing::warn!(%error, dir = %bundles.dir.display(), "the bundles are those that \
                    were copied before");
            }
            Err(error) => return Err(error),
        }
        Ok(Self { origin: Some(origin), ..bundles })
    }

    /// The directory: NAME/VERSION/bundle.json.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory what the store is now, if it is a copy. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read. A bundle that is refused is logged, and left out.
    pub(super) fn refresh(&self) -> Result<(), StoreError> {
        let Some(origin) = &self.origin else { return Ok(()) };
        origin.copy(&self.dir).inspect_err(|_| origin.metrics.store_failed(MODELS_STORE))
    }
}

impl Origin {
    fn copy(&self, dir: &Path) -> Result<(), StoreError> {
        let found = self.found()?;
        let mut seen = self.seen.lock().expect("no code panics while it holds this lock");
        for (key, (remote, objects)) in &found {
            let is_meant =
                self.only.as_ref().is_none_or(|only| *only == key.name || *only == key.to_string());
            if !is_meant || seen.get(key) == Some(objects) {
                continue;
            }
            match copy_bundle(remote, &dir.join(&key.name).join(&key.version)) {
                Ok(()) => {}
                // What cannot be reached is tried again; what is refused, when it has changed.
                Err(CopyError::Store(error)) => return Err(error),
                Err(error) => tracing::warn!(
                    error = with_causes(&error), model = %key, place = %remote.location(),
                    "a bundle is not copied"
                ),
            }
            seen.insert(key.clone(), objects.clone());
        }
        seen.retain(|key, _| found.contains_key(key));
        for key in on_disk(dir).unwrap_or_default() {
            if !found.contains_key(&key) {
                // What is left of it is tried again the next time.
                let _ = fs::remove_dir_all(dir.join(&key.name).join(&key.version));
            }
        }
        Ok(())
    }

    /// The bundles of the store, each with its objects. A location that is one bundle itself is
    /// what a plain web server can offer, which lists nothing.
    fn found(&self) -> Result<BTreeMap<Key, (Remote, Vec<Object>)>, StoreError> {
        let mut found = BTreeMap::new();
        if let Some(manifest) = self.remote.find(MANIFEST_FILE)? {
            let location = self.remote.location().to_string();
            let mut parts = location.rsplit('/');
            if let (Some(version), Some(name)) = (parts.next(), parts.next()) {
                let key = Key { name: name.to_owned(), version: version.to_owned() };
                found.insert(key, (self.remote.clone(), vec![manifest]));
            }
            return Ok(found);
        }
        for object in self.remote.list()? {
            let parts: Vec<&str> = object.name.split('/').collect();
            let [name, version, _] = parts[..] else { continue };
            if is_plain_name(name) && is_plain_name(version) {
                let key = Key { name: name.to_owned(), version: version.to_owned() };
                let below = || (self.remote.below(&format!("{name}/{version}")), Vec::new());
                found.entry(key).or_insert_with(below).1.push(object);
            }
        }
        let has_manifest = |objects: &[Object]| {
            objects.iter().any(|object| object.name.ends_with(&format!("/{MANIFEST_FILE}")))
        };
        found.retain(|_, (_, objects)| has_manifest(objects));
        Ok(found)
    }
}

/// Returns the error that a caller gets of a store.
pub(super) fn unavailable(error: StoreError) -> Error {
    Error::new(ErrorKind::StoreUnavailable, error.to_string())
}

/// Copies one bundle, unless the one that is there has its digest.
fn copy_bundle(remote: &Remote, place: &Path) -> Result<(), CopyError> {
    let Some((manifest, _)) = remote.get(MANIFEST_FILE)? else { return Ok(()) };
    if fs::read(place.join(MANIFEST_FILE)).is_ok_and(|held| held == manifest)
        && Bundle::open(place).is_ok()
    {
        return Ok(());
    }
    let files = Manifest::parse(&manifest, &place.join(MANIFEST_FILE))?.files.len();
    tracing::info!(place = %remote.location(), files, "a bundle is copied");
    receive(place, &manifest, |file, path| {
        let object = remote.find(file)?.ok_or_else(|| BundleError::Missing(file.to_owned()))?;
        let copied =
            fs::File::create(path).and_then(|mut to| io::copy(&mut remote.read(&object), &mut to));
        // What a store said stays what a store said: it is tried again.
        copied.map(drop).map_err(|error| match error.downcast::<StoreError>() {
            Ok(error) => CopyError::Store(error),
            Err(error) => CopyError::Written(error),
        })
    })
}
