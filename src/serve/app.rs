//! The state that every handler shares.

use std::sync::{Arc, OnceLock};

use axum::http::{HeaderMap, HeaderValue, header};

use super::access::Access;
use super::admission::Admission;
use super::config::Config;
use super::error::{Error, ErrorKind};
use super::metrics::Metrics;
use super::pipeline::Pipeline;
use super::trace::Traces;
use crate::serve::runtime::cpu::Cpu;
use crate::serve::runtime::lifecycle::Lifecycle;
use crate::serve::runtime::limits;

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
        let admission = Admission::guarded(
            config.max_queue_tiles.get(),
            config.max_inflight_bytes.0,
            config.memory_limit.map(|limit| limit.0).or_else(limits::memory),
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

    /// The answer to a load balancer.
    ///
    /// # Errors
    /// `not_ready` or `draining`; `not_ready` as well while the CPU threads do nothing for anybody:
    /// a request that came now would not be answered in time.
    pub(crate) fn is_ready(&self) -> Result<(), Error> {
        self.lifecycle.is_ready()?;
        if self.pipeline.get().is_some_and(|pipeline| pipeline.models.models().all().is_empty()) {
            let detail = "no model is served: load one";
            return Err(Error::new(ErrorKind::NotReady, detail));
        }
        let (oldest, most) = (self.cpu.oldest(), self.config.request_timeout.0);
        if oldest <= most {
            return Ok(());
        }
        let detail = format!(
            "work on the CPU threads has gone on for {} s: see restain_cpu_oldest_seconds",
            oldest.as_secs()
        );
        Err(Error::new(ErrorKind::NotReady, detail))
    }

    /// # Errors
    /// `not_ready` or `draining`, when no work is taken.
    pub(crate) fn pipeline(&self) -> Result<&Pipeline, Error> {
        self.lifecycle.takes_work()?;
        Ok(self.pipeline.get().expect("a server is ready only after its pipeline was given"))
    }
}
