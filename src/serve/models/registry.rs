//! The one place where what is served changes.
//!
//! Changes are made one at a time, under the load lock; readers are never kept waiting. A load is
//! verified and warm before it is seen, so a bundle that is refused leaves everything as it was.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::OwnedMutexGuard;

use super::bundles::unavailable;
use super::found::on_disk;
use super::load::{self, LoadContext, LoadError, Opened};
use super::served::warn_of_no_styles;
use super::{Key, Model, Models};
use crate::serve::error::{Error, ErrorKind};
use crate::serve::metrics::Offered;
use crate::serve::runtime::cpu;
use restain_bundle::{Bundle, is_plain_name};

pub struct Registry {
    pub(super) context: LoadContext,
    current: ArcSwap<Models>,
    /// Loads asked for while the server runs that gave no model, or not yet.
    states: Mutex<BTreeMap<Key, State>>,
    pub(super) load_lock: Arc<tokio::sync::Mutex<LoadLock>>,
}

/// What became of a load that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Loading,
    Failed { reason: String },
}

/// What a change of the served models has to itself, and the encoder threads that it starts.
#[derive(Default)]
pub(super) struct LoadLock {
    workers: Vec<JoinHandle<()>>,
    /// What was unloaded on request, by the digest it had: its directory is still there, and is no
    /// reason to load it.
    pub(super) withdrawn: BTreeMap<Key, String>,
    closed: bool,
}

/// A load that is asked for.
#[derive(Clone, Debug)]
pub struct LoadAsk {
    pub name: String,
    /// The highest on disk when left out.
    pub version: Option<String>,
    /// Whether requests without a model shall mean it.
    pub default: bool,
}

impl Registry {
    /// Loads every bundle of the models directory, or the one that the context names, or fails: a
    /// server that lacks a model it was given is not the server that was asked for. Blocks.
    ///
    /// # Errors
    /// With the bundle at fault and the reason.
    pub fn open(context: LoadContext) -> Result<Arc<Self>, LoadError> {
        let keys = context.keys()?;
        let (mut models, mut load_lock) = (Models::default(), LoadLock::default());
        for key in &keys {
            let Opened { model, workers } = load::open(&context, &path(&context, key))?;
            models = models.with(Arc::new(model));
            load_lock.workers.extend(workers);
        }
        if let Some(asked) = context.config.default_model.clone() {
            let served = models.names();
            models
                .named(&asked)
                .ok_or_else(|| LoadError::Default { asked: asked.clone(), served })?;
            models = models.preferring(Some(asked));
        }
        let models = models.settled();
        models.all().iter().for_each(|model| warn_of_no_styles(&models, model));
        let (current, load_lock) =
            (ArcSwap::from_pointee(models), Arc::new(tokio::sync::Mutex::new(load_lock)));
        let registry = Arc::new(Self { context, current, states: Mutex::default(), load_lock });
        registry.update_metrics();
        Ok(registry)
    }

    /// What is served now; it stays as it is for the caller who asked.
    pub fn models(&self) -> Arc<Models> {
        self.current.load_full()
    }

    /// As [`Models::find`], to keep for the length of a request.
    ///
    /// # Errors
    /// `model_not_found`, naming those that are served.
    pub fn find(&self, asked: Option<&str>) -> Result<Arc<Model>, Error> {
        self.current.load().find(asked).cloned()
    }

    /// Loads under way and loads that failed.
    pub fn states(&self) -> BTreeMap<Key, State> {
        self.lock_states().clone()
    }

    /// Every bundle of the models directory. Blocks.
    ///
    /// # Errors
    /// `internal`, when the directory cannot be read.
    pub fn on_disk(&self) -> Result<Vec<Key>, Error> {
        on_disk(self.context.bundles.dir()).map_err(|error| Error::internal(&error))
    }

    /// Loads a bundle, once those asked for before are done. The bundle that is served already is
    /// not loaded again while its digest on disk is the same; with another digest the new one takes
    /// its place, and the old one finishes what it has begun. It is done to the end even when the
    /// caller leaves.
    ///
    /// # Errors
    /// `model_name`, `model_not_found` when there is no such directory, `bundle_refused` with the
    /// reason, which may be that a version without styles is to be the default while another has
    /// some, `draining`.
    pub async fn load(self: &Arc<Self>, ask: LoadAsk) -> Result<Arc<Model>, Error> {
        check_names(&ask.name, ask.version.as_deref())?;
        self.with_load_lock(move |registry, load_lock| {
            registry.context.bundles.refresh().map_err(unavailable)?;
            let key = registry.wanted(&ask)?;
            let model = registry.load_now(load_lock, &key)?;
            if ask.default {
                let preferred =
                    ask.version.as_ref().map_or_else(|| key.name.clone(), |_| key.to_string());
                let models = (*registry.models()).clone().preferring(Some(preferred.clone()));
                let default = models.default_model().map(|model| model.key());
                if let Some(other) = default.filter(|other| *other != key && ask.version.is_some())
                {
                    let detail = format!(
                        "{key} is loaded, and is not made the default: it has no styles, and \
                        {other} has. Add some with `restain-train styles` and load it again"
                    );
                    return Err(Error::new(ErrorKind::BundleRefused, detail));
                }
                tracing::info!(model = preferred, "the default model is switched");
                registry.serve(models);
            }
            Ok(model)
        })
        .await
    }

    /// Unloads one version, or all of a name. Requests that hold it finish with it.
    ///
    /// # Errors
    /// `model_not_found`, or `model_is_default` when requests that name no model would mean another
    /// one, or none: the default is switched first, unless nothing else is served that could be
    /// one.
    pub async fn unload(
        self: &Arc<Self>,
        name: &str,
        version: Option<&str>,
    ) -> Result<Vec<Key>, Error> {
        check_names(name, version)?;
        let (name, version) = (name.to_owned(), version.map(str::to_owned));
        self.with_load_lock(move |registry, load_lock| {
            let is_meant = |key: &Key| {
                key.name == name && version.as_ref().is_none_or(|version| key.version == *version)
            };
            let failed: Vec<Key> = registry.states().into_keys().filter(is_meant).collect();
            let unloaded = registry.unload_now(load_lock, is_meant, true)?;
            if unloaded.is_empty() && failed.is_empty() {
                let asked = version
                    .as_ref()
                    .map_or_else(|| name.clone(), |version| format!("{name}/{version}"));
                registry.models().find(Some(&asked))?;
            }
            failed.iter().for_each(|key| registry.forget(key));
            Ok(if unloaded.is_empty() { failed } else { unloaded })
        })
        .await
    }

    /// Serves nothing from now on, once a load under way is done, and gives out the threads to be
    /// waited for.
    pub async fn close(&self) -> Vec<JoinHandle<()>> {
        let mut load_lock = self.load_lock.lock().await;
        load_lock.closed = true;
        self.current.store(Arc::default());
        std::mem::take(&mut load_lock.workers)
    }

    /// Closes the registry and waits for the encoders' threads: their queues close with the last
    /// handle to them.
    ///
    /// # Errors
    /// When the waiting itself panicked; a thread that did is logged.
    pub async fn join_workers(&self) -> Result<(), tokio::task::JoinError> {
        let workers = self.close().await;
        tokio::task::spawn_blocking(move || {
            for worker in workers {
                if worker.join().is_err() {
                    tracing::error!("an encoder's thread panicked");
                }
            }
        })
        .await
    }

    /// Threads of models that are served or still hold work.
    pub async fn workers(&self) -> usize {
        let mut load_lock = self.load_lock.lock().await;
        load_lock.reap();
        load_lock.workers.len()
    }

    /// Sets the gauges of models and domains to what is served.
    pub fn update_metrics(&self) {
        self.context.metrics.offer(|| {
            let mut offered = Offered::default();
            for model in self.models().all() {
                let Key { name, version } = model.key();
                offered.models.insert([
                    name,
                    version,
                    model.precision.to_string(),
                    model.provider.to_owned(),
                ]);
                let offer = model.styles.offer();
                for style in 0..offer.styles() {
                    *offered
                        .domains
                        .entry(offer.domain_name(offer.domain_of(style)).to_owned())
                        .or_default() += 1;
                }
            }
            offered
        });
    }

    /// Runs a change on a thread that may block, alone, and to its end whatever becomes of the
    /// caller.
    pub(super) async fn with_load_lock<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&Self, &mut LoadLock) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut load_lock: OwnedMutexGuard<LoadLock> =
            Arc::clone(&self.load_lock).lock_owned().await;
        let registry = Arc::clone(self);
        let work = move || {
            load_lock.reap();
            if load_lock.closed {
                Err(Error::new(ErrorKind::Draining, "the server is shutting down"))
            } else {
                change(&registry, &mut load_lock)
            }
        };
        let panicked = |_: &Error| {
            self.lock_states().values_mut().filter(|state| **state == State::Loading).for_each(
                |state| {
                    *state = State::Failed {
                        reason: "the server failed on it; its log says how".to_owned(),
                    };
                },
            );
        };
        cpu::blocking(work).await.inspect_err(panicked)?
    }

    pub(super) fn load_now(
        &self,
        load_lock: &mut LoadLock,
        key: &Key,
    ) -> Result<Arc<Model>, Error> {
        let path = path(&self.context, key);
        let digest = Bundle::digest_in(&path).map_err(|source| {
            self.refused(key, &LoadError::Bundle { path: path.clone(), source })
        })?;
        let served = self.models().named(&key.to_string()).cloned();
        if let Some(served) = served.filter(|served| served.bundle.digest == digest) {
            self.forget(key);
            return Ok(served);
        }
        self.lock_states().insert(key.clone(), State::Loading);
        let Opened { model, workers } =
            load::open(&self.context, &path).map_err(|error| self.refused(key, &error))?;
        let model = Arc::new(model);
        load_lock.workers.extend(workers);
        load_lock.withdrawn.remove(key);
        let models = self.models().with(Arc::clone(&model)).settled();
        warn_of_no_styles(&models, &model);
        self.serve(models);
        self.forget(key);
        Ok(model)
    }

    /// Takes out what `is_meant`; `last` says whether the default may go when nothing else is
    /// served.
    pub(super) fn unload_now(
        &self,
        load_lock: &mut LoadLock,
        is_meant: impl Fn(&Key) -> bool,
        last: bool,
    ) -> Result<Vec<Key>, Error> {
        let before = self.models();
        let after = before.without(&is_meant);
        let gone: Vec<&Arc<Model>> =
            before.all().iter().filter(|model| is_meant(&model.key())).collect();
        if let Some(default) = before.default_model().filter(|model| is_meant(&model.key())) {
            let successor = after
                .default_model()
                .filter(|next| next.name() == default.name() && !before.is_pinned(&default.key()));
            if successor.is_none() && !(last && after.all().is_empty()) {
                let detail = format!(
                    "{} is what requests without a model mean, and they would mean another, or \
                    none: make another the default first, with POST /v1/models/NAME/load and \
                    {{\"default\": true}}",
                    default.key()
                );
                return Err(Error::new(ErrorKind::ModelIsDefault, detail));
            }
        }
        for model in &gone {
            tracing::info!(model = model.name(), version = model.version(), "model unloaded");
            load_lock.withdrawn.insert(model.key(), model.bundle.digest.clone());
        }
        let keys = gone.iter().map(|model| model.key()).collect();
        self.serve(after);
        Ok(keys)
    }

    pub(super) fn forget(&self, key: &Key) {
        self.lock_states().remove(key);
    }

    fn serve(&self, models: Models) {
        self.current.store(Arc::new(models));
        self.update_metrics();
    }

    /// The version that a load means.
    fn wanted(&self, ask: &LoadAsk) -> Result<Key, Error> {
        let on_disk = self.on_disk()?;
        let of_name = |key: &&Key| {
            key.name == ask.name
                && ask.version.as_ref().is_none_or(|version| key.version == *version)
        };
        // Versions stand from the highest down.
        on_disk.iter().find(of_name).cloned().ok_or_else(|| {
            let version = ask.version.as_deref().unwrap_or("VERSION");
            let known: Vec<String> = on_disk.iter().map(Key::to_string).collect();
            let detail = format!(
                "the models directory holds no {}/{version}, and holds: {}",
                ask.name,
                known.join(", ")
            );
            Error::new(ErrorKind::ModelNotFound, detail)
        })
    }

    fn refused(&self, key: &Key, error: &LoadError) -> Error {
        tracing::warn!(model = key.name, version = key.version, %error, "a bundle was refused");
        self.context.metrics.model_refused();
        self.lock_states().insert(key.clone(), State::Failed { reason: error.to_string() });
        Error::new(ErrorKind::BundleRefused, error.to_string())
    }

    fn lock_states(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, State>> {
        self.states.lock().expect("no code panics while it holds this lock")
    }
}

impl LoadLock {
    /// Joins the threads that have ended: those of models that are no longer held.
    fn reap(&mut self) {
        for ended in self.workers.extract_if(.., |worker| worker.is_finished()) {
            if ended.join().is_err() {
                tracing::error!("an encoder's thread panicked");
            }
        }
    }
}

pub(super) fn path(context: &LoadContext, key: &Key) -> PathBuf {
    context.bundles.dir().join(&key.name).join(&key.version)
}

/// Names come from callers: none may lead out of the models directory.
fn check_names(name: &str, version: Option<&str>) -> Result<(), Error> {
    for (field, value) in [("name", Some(name)), ("version", version)] {
        if let Some(value) = value.filter(|value| !is_plain_name(value)) {
            let detail = format!(
                "{field} is {value:?}, and must be letters, digits, '.', '_' or '-', and not begin \
                with '.'"
            );
            return Err(Error::new(ErrorKind::ModelName, detail));
        }
    }
    Ok(())
}
