//! The state that every handler shares.

use std::sync::{Arc, OnceLock};

use axum::http::{HeaderMap, HeaderValue, header};

use super::access::Access;
use super::admission::Admission;
use super::config::Config;
use super::error::Error;
use super::metrics::Metrics;
use super::pipeline::Pipeline;
use super::trace::Traces;
use crate::serve::runtime::cpu::Cpu;
use crate::serve::runtime::lifecycle::Lifecycle;

pub(crate) struct App {
    pub config: Config,
    pub lifecycle: Lifecycle,
    pub access: Access,
    pub admission: Arc<Admission>,
    pub metrics: Arc<Metrics>,
    pub cpu: Arc<Cpu>,
    /// None without a collector.
    pub traces: Option<Traces>,
    /// Empty while the models load.
    pipeline: OnceLock<Pipeline>,
}

impl App {
    pub(crate) fn new(
        config: Config,
        access: Access,
        metrics: Arc<Metrics>,
        cpu: Cpu,
        traces: Option<Traces>,
    ) -> Self {
        let admission = Admission::new(
            config.max_queue_tiles.get(),
            config.max_inflight_bytes.0,
            Arc::clone(&metrics),
        );
        Self {
            config,
            access,
            lifecycle: Lifecycle::default(),
            admission,
            metrics,
            cpu: Arc::new(cpu),
            traces,
            pipeline: OnceLock::new(),
        }
    }

    /// Returns the headers of a request with a known key, whose trace continues; callers without
    /// one cannot decide what is traced.
    pub(crate) fn known<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderMap> {
        self.access
            .knows(headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes))
            .then_some(headers)
    }

    /// Sets the pipeline, once, when the models are loaded.
    pub(crate) fn open(&self, pipeline: Pipeline) {
        let first = self.pipeline.set(pipeline).is_ok();
        debug_assert!(first, "models are loaded once");
    }

    /// # Errors
    /// `not_ready` or `draining`, when no work is taken.
    pub(crate) fn pipeline(&self) -> Result<&Pipeline, Error> {
        self.lifecycle.takes_work()?;
        Ok(self.pipeline.get().expect("a server is ready only after its pipeline was given"))
    }
}
