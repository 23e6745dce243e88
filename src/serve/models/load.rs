//! From a directory to a model that is warm, and what there is to load.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use super::version::in_order;
use super::{Bundles, Key, Model};
use crate::serve::cache::EncodingsCache;
use crate::serve::config::Config;
use crate::serve::error::with_causes;
use crate::serve::metrics::Metrics;
use crate::serve::models::encoders::{Encoders, EncodersContext, EncodersError};
use crate::serve::styles::Store;
use restain_bundle::{Bundle, BundleError, MANIFEST_FILE};
use restain_engine::{EngineError, Runtime};
use restain_method::synth::Synthesiser;
use restain_store::StoreError;

/// What models are loaded with.
#[derive(Clone)]
pub struct LoadContext {
    pub config: Config,
    pub cache: Arc<EncodingsCache>,
    pub metrics: Arc<Metrics>,
    pub styles: Arc<Store>,
    pub bundles: Arc<Bundles>,
    /// Only this one, rather than all of the models directory.
    pub only: Option<Key>,
}

impl LoadContext {
    /// What a pipeline needs to load models: all of those in `--models`, or with `only_one` the one
    /// that `--default-model` names. Blocks.
    ///
    /// # Errors
    /// When there is no such model, or a store cannot be read.
    pub fn open(
        config: Config,
        cache: Arc<EncodingsCache>,
        metrics: Arc<Metrics>,
        styles: Arc<Store>,
        only_one: bool,
    ) -> Result<Self, LoadError> {
        let asked = config.default_model.as_deref();
        let of_store = only_one.then_some(asked);
        let copies = config.models_cache.as_deref();
        let bundles = Bundles::open(&config.models, copies, of_store, &metrics)?;
        let pick = || pick_of(&on_disk(bundles.dir())?, asked, bundles.dir()).cloned();
        let only = only_one.then(pick).transpose()?;
        Ok(Self { config, cache, metrics, styles, bundles: Arc::new(bundles), only })
    }
}

/// A model, and the threads that work for it until its last handle is gone.
pub(super) struct Opened {
    pub model: Model,
    pub workers: Vec<JoinHandle<()>>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the models directory {} cannot be read: {source}", .path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(StoreError),
    #[error("this user has no home: say with --models-cache where copies of bundles go")]
    NoCache,
    #[error("no bundle under {}: it must hold NAME/VERSION/{MANIFEST_FILE}", .0.display())]
    Empty(PathBuf),
    #[error("the bundle {} is refused: {}", .path.display(), with_causes(.source))]
    Bundle { path: PathBuf, source: BundleError },
    #[error("the manifest in {} names the bundle {name}/{version}, and its directory must have that path", .path.display())]
    Misplaced { path: PathBuf, name: String, version: String },
    #[error(transparent)]
    Runtime(EngineError),
    #[error("the bundle {} is refused: {}", .path.display(), with_causes(.source))]
    Encoders { path: PathBuf, source: EncodersError },
    #[error("default-model is {asked}, and served are: {served}")]
    Default { asked: String, served: String },
    #[error("model is `{asked}`, and {} holds: {known}", .models.display())]
    NoSuch { asked: String, models: PathBuf, known: String },
    #[error("model must be given, since {} holds several: {known}", .models.display())]
    Several { models: PathBuf, known: String },
}

/// Verifies the bundle in `path`, opens its encoder, runs every batch size once, and starts its
/// worker. When another bundle takes its place meanwhile, opens that one.
///
/// # Errors
/// With the reason, and nothing left running.
pub(super) fn open(context: &LoadContext, path: &Path) -> Result<Opened, LoadError> {
    loop {
        let before = Bundle::digest_in(path).ok();
        let opened = open_once(context, path);
        if Bundle::digest_in(path).ok() == before {
            return opened;
        }
        tracing::info!(path = %path.display(), "the bundle was replaced while it was loaded: loading the new one");
    }
}

fn open_once(context: &LoadContext, path: &Path) -> Result<Opened, LoadError> {
    let started = Instant::now();
    let refused = |source| LoadError::Bundle { path: path.to_owned(), source };
    let mut bundle = Bundle::open(path).map_err(refused)?;
    let own = std::mem::take(&mut bundle.styles);
    let manifest = &bundle.manifest;
    if !path.ends_with(Path::new(&manifest.name).join(&manifest.version)) {
        return Err(LoadError::Misplaced {
            path: path.to_owned(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
        });
    }
    let config = &context.config;
    let runtime = Runtime::load().map_err(LoadError::Runtime)?;
    let encoders = EncodersContext {
        runtime: &runtime,
        config,
        cache: &context.cache,
        metrics: &context.metrics,
    };
    let Encoders { batch, scope, threads: workers, precision, provider } =
        Encoders::start(&bundle, &encoders)
            .map_err(|source| LoadError::Encoders { path: path.to_owned(), source })?;

    let took = started.elapsed();
    context.metrics.model_loaded(took);
    let styles = context.styles.bank(&bundle.digest, manifest.geometry.half(), own);
    tracing::info!(model = manifest.name, version = manifest.version, styles = styles.offer().styles(), %precision, provider, ?took, "model ready");
    let synthesiser =
        Synthesiser::new(manifest.geometry, manifest.pixel_order, manifest.normalisation);
    let statistics = Arc::default();
    Ok(Opened {
        model: Model { bundle, styles, precision, provider, synthesiser, batch, scope, statistics },
        workers,
    })
}

/// Every NAME/VERSION with a manifest under `models`, names in order and each name's versions from
/// the highest down.
///
/// # Errors
/// When a directory cannot be listed.
pub(super) fn on_disk(models: &Path) -> Result<Vec<Key>, LoadError> {
    let mut keys = Vec::new();
    for name in directories(models)? {
        let versions = directories(&models.join(&name))?;
        let whole = versions
            .into_iter()
            .filter(|version| models.join(&name).join(version).join(MANIFEST_FILE).is_file());
        keys.extend(whole.map(|version| Key { name: name.clone(), version }));
    }
    Ok(in_order(keys))
}

/// The one of `keys`, which lie in `models`, that is `asked` for: NAME/VERSION, or the highest
/// version of NAME, or of the only name. Versions stand from the highest down.
///
/// # Errors
/// When there is none, or nothing was asked for and there are several names.
pub(super) fn pick_of<'a>(
    keys: &'a [Key],
    asked: Option<&str>,
    models: &Path,
) -> Result<&'a Key, LoadError> {
    let known = || keys.iter().map(Key::to_string).collect::<Vec<_>>().join(", ");
    let first = keys.first().ok_or_else(|| LoadError::Empty(models.to_owned()))?;
    match asked {
        Some(asked) => keys
            .iter()
            .find(|key| key.name == asked || key.to_string() == asked)
            .ok_or_else(|| LoadError::NoSuch {
                asked: asked.to_owned(),
                models: models.to_owned(),
                known: known(),
            }),
        None if keys.iter().any(|key| key.name != first.name) => {
            Err(LoadError::Several { models: models.to_owned(), known: known() })
        }
        None => Ok(first),
    }
}

/// The names of the directories in `path`. What no bundle can be called, such as one that is being
/// written, is none.
fn directories(path: &Path) -> Result<Vec<String>, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if restain_bundle::is_plain_name(&name) && entry.path().is_dir() {
            names.push(name);
        }
    }
    Ok(names)
}
