//! The pipeline and its cache, opened from a configuration: by the server, and by `restain
//! augment`, which has no server.

use std::sync::Arc;

use super::admission::Admission;
use super::cache::{CacheError, CacheOptions, DiskOptions, EncodingsCache};
use super::config::Config;
use super::metrics::Metrics;
use super::models::{LoadContext, LoadError, Registry};
use super::pipeline::{Limits, Pipeline};
use super::styles::{StateError, Store};
use crate::serve::runtime::buffers::Buffers;
use crate::serve::runtime::cpu::Cpu;
use restain_bundle::codec;

/// Memory for answers that is kept while it is unused.
const IDLE_BUFFERS: usize = 128 << 20;

/// Why they could not be opened, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the CPU threads cannot be started: {0}")]
    Threads(std::io::Error),
    #[error("a task panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// What exists before the models do.
pub struct Resources {
    pub admission: Arc<Admission>,
    pub cpu: Arc<Cpu>,
    pub metrics: Arc<Metrics>,
}

/// A pipeline, and the cache that is closed after it.
pub struct Services {
    pub pipeline: Pipeline,
    pub cache: Arc<EncodingsCache>,
}

impl Services {
    /// Loads every model, on a thread that may block.
    ///
    /// # Errors
    /// When a bundle is refused, or a directory cannot be used.
    pub async fn open(config: &Config, resources: Resources) -> Result<Self, OpenError> {
        Self::with(config, resources, false).await
    }

    /// Loads only the model that `default_model` names.
    ///
    /// # Errors
    /// As [`Services::open`].
    pub async fn one(config: &Config, resources: Resources) -> Result<Self, OpenError> {
        Self::with(config, resources, true).await
    }

    /// Loads only the model that `default_model` names, and admits any number of tiles and bytes:
    /// for a job, which limits itself.
    ///
    /// # Errors
    /// As [`Services::open`].
    pub async fn alone(config: &Config) -> Result<Self, OpenError> {
        let metrics = Arc::new(Metrics::new()?);
        let admission = Admission::new(usize::MAX, u64::MAX, Arc::clone(&metrics));
        let cpu = Arc::new(Cpu::new(config.threads).map_err(OpenError::Threads)?);
        Self::one(config, Resources { admission, cpu, metrics }).await
    }

    async fn with(
        config: &Config,
        resources: Resources,
        only_one: bool,
    ) -> Result<Self, OpenError> {
        let Resources { admission, cpu, metrics } = resources;
        let disk =
            config.cache_dir.clone().map(|dir| DiskOptions { dir, bytes: config.cache_disk.0 });
        let options = CacheOptions { memory_bytes: config.cache_memory.0, disk };
        let cache = EncodingsCache::open(&options, Arc::clone(&metrics)).await?;
        let (kept, counted, settings) = (Arc::clone(&cache), Arc::clone(&metrics), config.clone());
        let open = move || -> Result<_, OpenError> {
            let state = settings.state.as_ref();
            let styles = Store::open(state, &settings.forbid_domain, Arc::clone(&counted))?;
            let context = LoadContext::open(settings, kept, counted, styles, only_one)?;
            Ok(Registry::open(context)?)
        };
        let models = tokio::task::spawn_blocking(open).await??;
        let limits = Limits {
            max_tiles: config.max_tiles.get(),
            max_variants: config.max_variants.get(),
            window: config.window,
            codec: codec::Limits::of_tile(config.max_pixels),
            timeout: config.request_timeout.0,
        };
        let buffers = Buffers::new(IDLE_BUFFERS);
        Ok(Self { pipeline: Pipeline { models, admission, cpu, metrics, limits, buffers }, cache })
    }

    /// Waits for the encoders' threads, which end once no work of theirs is left, and closes the
    /// cache.
    ///
    /// # Errors
    /// When one of them panicked.
    pub async fn close(self) -> Result<(), OpenError> {
        self.pipeline.models.join_workers().await?;
        self.cache.close().await;
        Ok(())
    }
}
