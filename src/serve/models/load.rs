//! From a directory to a model that is warm, and what there is to load.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use super::found::{FindError, on_disk, pick_of};
use super::{Bundles, Key, Model};
use crate::serve::cache::EncodingsCache;
use crate::serve::config::Config;
use crate::serve::error::with_causes;
use crate::serve::metrics::Metrics;
use crate::serve::models::encoders::{Encoders, EncodersContext, EncodersError};
use crate::serve::styles::Store;
use restain_bundle::{Bundle, BundleError};
use restain_engine::{EngineError, Runtime};
use restain_method::synth::Synthesiser;

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

    /// What is to be loaded first.
    pub(super) fn keys(&self) -> Result<Vec<Key>, FindError> {
        let dir = self.bundles.dir();
        let keys = self.only.clone().map_or_else(|| on_disk(dir), |key| Ok(vec![key]))?;
        if keys.is_empty() { Err(FindError::Empty(dir.to_owned())) } else { Ok(keys) }
    }
}

/// A model, and the threads that work for it until its last handle is gone.
pub(super) struct Opened {
    pub model: Model,
    pub workers: Vec<JoinHandle<()>>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("the bundle {} is refused: {}", .path.display(), with_causes(.source))]
    Bundle { path: PathBuf, source: BundleError },
    #[error("the manifest in {} names the bundle {name}/{version}, and its directory must have \
        that path", .path.display())]
    Misplaced { path: PathBuf, name: String, version: String },
    #[error(transparent)]
    Runtime(EngineError),
    #[error("the bundle {} is refused: {}", .path.display(), with_causes(.source))]
    Encoders { path: PathBuf, source: EncodersError },
    #[error("default-model is {asked}, and served are: {served}")]
    Default { asked: String, served: String },
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
        tracing::info!(path = %path.display(), "the bundle was replaced while it was loaded: \
            loading the new one");
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
    let styles = context.styles.bank(&bundle.digest, manifest.geometry.style_len(), own);
    tracing::info!(model = manifest.name, version = manifest.version,
        styles = styles.offer().styles(), %precision, provider, ?took, "model ready");
    let synthesiser =
        Synthesiser::new(manifest.geometry, manifest.pixel_order, manifest.normalisation);
    let statistics = Arc::default();
    Ok(Opened {
        model: Model { bundle, styles, precision, provider, synthesiser, batch, scope, statistics },
        workers,
    })
}
