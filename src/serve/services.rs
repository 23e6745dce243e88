//! What a pipeline stands on, opened from options: for the server, and for a job that works without one.

use std::sync::Arc;

use super::admission::Admission;
use super::cache::{CacheOptions, DiskOptions, EncodingsCache};
use super::config::Config;
use super::metrics::Metrics;
use super::models::{LoadContext, Registry, pick};
use super::pipeline::{Limits, Pipeline};
use super::styles::Store;
use super::{ServeError, end};
use crate::serve::runtime::buffers::Buffers;
use crate::serve::runtime::cpu::Cpu;
use restain_bundle::codec;

/// Memory for answers that is kept at hand while nobody needs it.
const IDLE_BUFFERS: usize = 128 << 20;

/// What is there before the models are.
pub struct Resources {
    pub admission: Arc<Admission>,
    pub cpu: Arc<Cpu>,
    pub metrics: Arc<Metrics>,
}

/// A pipeline, and what it is ended with.
pub struct Services {
    pub pipeline: Pipeline,
    pub cache: Arc<EncodingsCache>,
}

impl Services {
    /// Loads every model, on a thread that may block.
    ///
    /// # Errors
    /// When a bundle is refused, or a directory cannot be used.
    pub async fn open(config: &Config, resources: Resources) -> Result<Self, ServeError> {
        Self::with(config, resources, false).await
    }

    /// For a job: only the model that `default_model` names, and as many tiles and bytes at once as the job sees fit.
    ///
    /// # Errors
    /// As [`Services::open`].
    pub async fn alone(config: &Config) -> Result<Self, ServeError> {
        let metrics = Arc::new(Metrics::new()?);
        let admission = Admission::new(usize::MAX, u64::MAX, Arc::clone(&metrics));
        let cpu = Arc::new(Cpu::new(config.threads.get())?);
        Self::with(config, Resources { admission, cpu, metrics }, true).await
    }

    async fn with(
        config: &Config,
        resources: Resources,
        only_one: bool,
    ) -> Result<Self, ServeError> {
        let Resources { admission, cpu, metrics } = resources;
        let disk =
            config.cache_dir.clone().map(|dir| DiskOptions { dir, bytes: config.cache_disk.0 });
        let options = CacheOptions { memory_bytes: config.cache_memory.0, disk };
        let cache = EncodingsCache::open(&options, Arc::clone(&metrics)).await?;
        let (kept, counted, settings) = (Arc::clone(&cache), Arc::clone(&metrics), config.clone());
        let open = move || -> Result<_, ServeError> {
            let unusable = |source| ServeError::StateDir {
                path: settings.state_dir.clone().unwrap_or_default(),
                source,
            };
            let styles = Store::open(settings.state_dir.as_deref(), &settings.forbid_domain)
                .map_err(unusable)?;
            let only = if only_one {
                Some(pick(&settings.models, settings.default_model.as_deref())?)
            } else {
                None
            };
            Ok(Registry::open(LoadContext {
                config: settings,
                cache: kept,
                metrics: counted,
                styles,
                only,
            })?)
        };
        let models = tokio::task::spawn_blocking(open).await??;
        let limits = Limits {
            max_tiles: config.max_tiles.get(),
            max_variants: config.max_variants.get(),
            codec: codec::Limits { max_pixels: config.max_pixels },
            timeout: config.request_timeout.0,
        };
        let buffers = Buffers::new(IDLE_BUFFERS);
        Ok(Self { pipeline: Pipeline { models, admission, cpu, metrics, limits, buffers }, cache })
    }

    /// Ends the encoders' threads, once nobody holds work of theirs.
    ///
    /// # Errors
    /// When one of them panicked.
    pub async fn close(self) -> Result<(), ServeError> {
        end(&self.pipeline.models).await?;
        self.cache.close().await;
        Ok(())
    }
}
