//! Every metric with its name, help and labels. Dashboards depend on the names.

use std::sync::Mutex;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, exponential_buckets,
};

use super::{Metrics, register};
use crate::serve::runtime::panics;

impl Metrics {
    /// # Errors
    /// Never in practice: every name below is valid and given once.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("restain".to_owned()), None)?;
        let seconds = exponential_buckets(0.000_5, 2.0, 18)?;
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            register(
                &registry,
                Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?,
            )
        };
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help)?);
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help)?);
        let metrics = Self {
            requests: register(
                &registry,
                IntCounterVec::new(
                    Opts::new("requests_total", "Requests answered."),
                    &["route", "code", "method"],
                )?,
            )?,
            request_duration: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "request_duration_seconds",
                        "From the head of a request to the head of its answer.",
                    )
                    .buckets(seconds.clone()),
                    &["route"],
                )?,
            )?,
            queue_duration: histogram(
                "queue_duration_seconds",
                "A tile's wait for its batch.",
                &seconds,
            )?,
            encode_duration: histogram(
                "encode_duration_seconds",
                "One batch through the encoder.",
                &seconds,
            )?,
            synthesise_duration: histogram(
                "synthesise_duration_seconds",
                "All variants of one request.",
                &seconds,
            )?,
            batch_tiles: histogram(
                "batch_tiles",
                "Tiles of a batch, padding left out.",
                &exponential_buckets(1.0, 2.0, 11)?,
            )?,
            queue_tiles: gauge("queue_tiles", "Tiles admitted, waiting or being encoded.")?,
            inflight_bytes: gauge("inflight_bytes", "Memory of requests and answers in flight.")?,
            tiles: counter("tiles_total", "Tiles encoded.")?,
            variants: counter("variants_total", "Variants made.")?,
            cache_hits: counter(
                "encodings_cache_hits_total",
                "Tiles whose encoding was held, in memory or on disk.",
            )?,
            cache_misses: counter(
                "encodings_cache_misses_total",
                "Tiles whose encoding was not held.",
            )?,
            cache_evictions: counter(
                "encodings_cache_evictions_total",
                "Encodings evicted from memory.",
            )?,
            cache_bytes: gauge("encodings_cache_bytes", "Memory of the encodings held.")?,
            cache_disk_errors: counter(
                "encodings_cache_disk_errors_total",
                "Disk errors of the cache.",
            )?,
            rejected: register(
                &registry,
                IntCounterVec::new(
                    Opts::new("rejected_total", "Requests rejected by limits."),
                    &["reason"],
                )?,
            )?,
            key_requests: register(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "key_requests_total",
                        "Requests by key and outcome; requests without a known key have an empty key.",
                    ),
                    &["key", "outcome"],
                )?,
            )?,
            styles: register(
                &registry,
                IntGaugeVec::new(Opts::new("styles", "Styles on offer."), &["domain"])?,
            )?,
            model_info: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new("model_info", "1 for every model that is served."),
                    &["model", "version", "precision", "provider"],
                )?,
            )?,
            model_load_duration: histogram(
                "model_load_duration_seconds",
                "Verifying a bundle, opening its encoder, and warming it.",
                &exponential_buckets(0.05, 2.0, 12)?,
            )?,
            ready: gauge("ready", "1 while /health/ready answers 200.")?,
            connections: register(
                &registry,
                IntGaugeVec::new(Opts::new("connections", "Connections open."), &["port"])?,
            )?,
            model_load_failures: counter(
                "model_load_failures_total",
                "Bundles that were refused.",
            )?,
            reload_failures: register(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "reload_failures_total",
                        "Failed reloads of a changed file; its last good contents stay in use.",
                    ),
                    &["file"],
                )?,
            )?,
            reload_refused: register(
                &registry,
                IntGaugeVec::new(
                    Opts::new(
                        "reload_refused",
                        "1 while the file as it is cannot be used, and its last good contents stay in use.",
                    ),
                    &["file"],
                )?,
            )?,
            offered: Mutex::default(),
            registry,
        };
        register(&metrics.registry, panics::COUNT.clone())?;
        let build = IntGaugeVec::new(
            Opts::new("build_info", "1, with the program's version."),
            &["version"],
        )?;
        register(&metrics.registry, build)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        metrics
            .registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }
}
