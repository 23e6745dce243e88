//! Every metric with its name, help and labels. Dashboards depend on the names.

use std::sync::Mutex;

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result, exponential_buckets,
};

use super::{Metrics, register};
use crate::serve::runtime::{log_lines, panics};

impl Metrics {
    /// # Errors
    /// Never in practice: every name below is valid and given once.
    pub fn new() -> Result<Self> {
        let registry = Registry::new_custom(Some("restain".to_owned()), None)?;
        let define = Define(&registry);
        let seconds = exponential_buckets(0.000_5, 2.0, 18)?;
        let load_seconds = exponential_buckets(0.05, 2.0, 12)?;
        let tiles = exponential_buckets(1.0, 2.0, 11)?;
        let by_route = HistogramOpts::new("request_duration_seconds", REQUEST_DURATION);
        let by_route = HistogramVec::new(by_route.buckets(seconds.clone()), &["route"])?;
        let decibels = prometheus::linear_buckets(12.0, 2.0, 20)?;
        let fidelity = HistogramOpts::new("fidelity_decibels", FIDELITY).buckets(decibels);
        let fidelity = HistogramVec::new(fidelity, &["model"])?;
        let shares = vec![0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
        let clipped = HistogramOpts::new("clipped_values_ratio", CLIPPED).buckets(shares);
        let clipped = HistogramVec::new(clipped, &["model"])?;
        define.process()?;
        Ok(Self {
            requests: define.counters(
                "requests_total",
                "Requests answered.",
                &["route", "code", "method"],
            )?,
            request_duration: register(&registry, by_route)?,
            queue_duration: define.histogram("queue_duration_seconds", QUEUE, &seconds)?,
            encode_duration: define.histogram("encode_duration_seconds", ENCODE, &seconds)?,
            synthesise_duration: define.histogram(
                "synthesise_duration_seconds",
                "All variants of one request.",
                &seconds,
            )?,
            batch_tiles: define.histogram(
                "batch_tiles",
                "Tiles of a batch, padding left out.",
                &tiles,
            )?,
            fidelity: register(&registry, fidelity)?,
            clipped: register(&registry, clipped)?,
            unfamiliar: define.counters("unfamiliar_tiles_total", UNFAMILIAR, &["model"])?,
            queue_tiles: define.gauge("queue_tiles", QUEUE_TILES)?,
            inflight_bytes: define.gauge("inflight_bytes", INFLIGHT_BYTES)?,
            tiles: define.counter("tiles_total", "Tiles encoded.")?,
            variants: define.counter("variants_total", "Variants made.")?,
            cache_hits: define.counter("encodings_cache_hits_total", CACHE_HITS)?,
            cache_misses: define.counter("encodings_cache_misses_total", CACHE_MISSES)?,
            cache_evictions: define.counter("encodings_cache_evictions_total", CACHE_EVICTIONS)?,
            cache_bytes: define.gauge("encodings_cache_bytes", "Memory of the encodings held.")?,
            cache_disk_errors: define.counter("encodings_cache_disk_errors_total", DISK_ERRORS)?,
            rejected: define.counters(
                "rejected_total",
                "Requests rejected by limits.",
                &["reason"],
            )?,
            key_requests: define.counters("key_requests_total", BY_KEY, &["key", "outcome"])?,
            styles: define.gauges("styles", "Styles on offer.", &["domain"])?,
            model_info: define.gauges(
                "model_info",
                "1 for every model that is served.",
                &["model", "version", "precision", "provider"],
            )?,
            model_load_duration: define.histogram(
                "model_load_duration_seconds",
                MODEL_LOAD,
                &load_seconds,
            )?,
            cpu_oldest: register(&registry, Gauge::new("cpu_oldest_seconds", CPU_OLDEST)?)?,
            ready: define.gauge("ready", "1 while /health/ready answers 200.")?,
            connections: define.gauges("connections", "Connections open.", &["port"])?,
            model_load_failures: define
                .counter("model_load_failures_total", "Bundles that were refused.")?,
            store_failures: define.counters("store_failures_total", STORE_FAILURES, &["store"])?,
            reload_failures: define.counters("reload_failures_total", RELOAD_FAILED, &["file"])?,
            reload_refused: define.gauges("reload_refused", RELOAD_REFUSED, &["file"])?,
            offered: Mutex::default(),
            registry,
        })
    }
}

const REQUEST_DURATION: &str = "From the head of a request to the head of its answer.";
const QUEUE: &str = "A tile's wait for its batch.";
const ENCODE: &str = "One batch through the encoder.";
const FIDELITY: &str =
    "PSNR of the reconstructions of encoded tiles; low values are tiles unlike the training data.";
const CLIPPED: &str =
    "Share of a variant's values that the change of stain drove to 0 or 255, by variant.";
const UNFAMILIAR: &str =
    "Tiles whose answers warn that they are unlike what the model was trained on.";
const QUEUE_TILES: &str = "Tiles admitted, waiting or being encoded.";
const INFLIGHT_BYTES: &str = "Memory of requests and answers in flight.";
const CPU_OLDEST: &str =
    "How long the oldest work on the CPU threads has gone on, or has waited for its turn.";
const CACHE_HITS: &str = "Tiles whose encoding was held, in memory or on disk.";
const CACHE_MISSES: &str = "Tiles whose encoding was not held.";
const CACHE_EVICTIONS: &str = "Encodings evicted from memory.";
const DISK_ERRORS: &str = "Disk errors of the cache.";
const STORE_FAILURES: &str =
    "Failures, after retries, of the stores that --models and --state name by URL.";
const BY_KEY: &str = "Requests by key and outcome; requests without a known key have an empty key.";
const MODEL_LOAD: &str = "Verifying a bundle, opening its encoder, and warming it.";
const RELOAD_FAILED: &str = "Failed reloads of a changed file; its last good contents stay in use.";
const RELOAD_REFUSED: &str =
    "1 while the file as it is cannot be used, and its last good contents stay in use.";

/// Makes metrics and registers them.
struct Define<'a>(&'a Registry);

impl Define<'_> {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        register(self.0, IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        register(self.0, IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        register(self.0, IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        register(self.0, IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        register(self.0, Histogram::with_opts(options)?)
    }

    /// Those of the process as a whole.
    fn process(&self) -> Result<()> {
        register(self.0, panics::COUNT.clone())?;
        register(self.0, log_lines::DROPPED.clone())?;
        register(self.0, log_lines::WAITING.clone())?;
        let build = self.gauges("build_info", "1, with the program's version.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        self.0.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(())
    }
}
