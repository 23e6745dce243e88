//! What every handler shares.

use std::sync::{Arc, OnceLock};

use super::admission::Admission;
use super::config::Config;
use super::cpu::Cpu;
use super::error::Error;
use super::lifecycle::Lifecycle;
use super::metrics::Metrics;
use super::pipeline::Pipeline;

pub struct App {
    pub config: Config,
    pub lifecycle: Lifecycle,
    pub admission: Arc<Admission>,
    pub metrics: Arc<Metrics>,
    pub cpu: Arc<Cpu>,
    /// Empty while the models load.
    pipeline: OnceLock<Pipeline>,
}

impl App {
    pub fn new(config: Config, metrics: Arc<Metrics>, cpu: Cpu) -> Self {
        let admission = Admission::new(config.max_queue_tiles.get(), config.max_inflight_bytes.0, Arc::clone(&metrics));
        Self { config, lifecycle: Lifecycle::default(), admission, metrics, cpu: Arc::new(cpu), pipeline: OnceLock::new() }
    }

    /// Given once, when the models are loaded.
    pub fn open(&self, pipeline: Pipeline) {
        let first = self.pipeline.set(pipeline).is_ok();
        debug_assert!(first, "models are loaded once");
    }

    /// # Errors
    /// `not_ready` or `draining`, when no work is taken.
    pub fn pipeline(&self) -> Result<&Pipeline, Error> {
        self.lifecycle.takes_work()?;
        Ok(self.pipeline.get().expect("a server is ready only after its pipeline was given"))
    }
}
