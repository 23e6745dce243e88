//! Prometheus metrics. No label has an unbounded set of values: routes are those that are declared,
//! domains and models those of the bundles that are served, keys those of their file.

mod definitions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

use super::error::ErrorKind;
use super::runtime::limits;

pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_duration: HistogramVec,
    queue_duration: Histogram,
    encode_duration: Histogram,
    synthesise_duration: Histogram,
    batch_tiles: Histogram,
    fidelity: HistogramVec,
    clipped: HistogramVec,
    unfamiliar: IntCounterVec,
    queue_tiles: IntGauge,
    inflight_bytes: IntGauge,
    tiles: IntCounter,
    variants: IntCounter,
    cache_hits: IntCounter,
    cache_misses: IntCounter,
    cache_evictions: IntCounter,
    cache_bytes: IntGauge,
    cache_disk_errors: IntCounter,
    rejected: IntCounterVec,
    key_requests: IntCounterVec,
    ready: IntGauge,
    cpu_oldest: Gauge,
    connections: IntGaugeVec,
    model_load_failures: IntCounter,
    store_failures: IntCounterVec,
    reload_failures: IntCounterVec,
    reload_refused: IntGaugeVec,
    styles: IntGaugeVec,
    model_info: IntGaugeVec,
    model_load_duration: Histogram,
    /// What the gauges of models and domains were set for, so that what is gone is taken out.
    offered: Mutex<Offered>,
}

/// What is on offer: the models, each as name, version, precision and provider, and the styles of
/// every domain.
#[derive(Default)]
pub struct Offered {
    pub models: BTreeSet<[String; 4]>,
    pub domains: BTreeMap<String, usize>,
}

/// How much a server may take on at once.
pub struct Most {
    pub queue_tiles: usize,
    pub inflight_bytes: u64,
    pub cache_bytes: u64,
    /// Of one port.
    pub connections: usize,
}

/// One request, as the transport saw it.
pub struct Served<'a> {
    pub route: &'a str,
    /// Of HTTP, or `GRPC`.
    pub method: &'a str,
    /// The status of HTTP, or the name of gRPC's.
    pub code: &'a str,
    pub took: Duration,
}

impl Metrics {
    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// Sets the gauges of this server's limits, for dashboards.
    ///
    /// # Errors
    /// When called twice.
    pub fn set_limits(&self, most: &Most) -> prometheus::Result<()> {
        // A first failure is an increase only where there was a 0.
        for store in ["models", "state"] {
            self.store_failures.with_label_values(&[store]).inc_by(0);
        }
        let memory = limits::memory()
            .map(|bytes| ("process_memory_limit_bytes", "Memory that the process may use.", bytes));
        let limits = [
            ("queue_tiles_limit", "Limit of queue_tiles.", most.queue_tiles as u64),
            ("inflight_bytes_limit", "Limit of inflight_bytes.", most.inflight_bytes),
            ("encodings_cache_bytes_limit", "Memory for encodings.", most.cache_bytes),
            (
                "connections_limit",
                "Connections of one port at once, at most.",
                most.connections as u64,
            ),
        ];
        for (name, help, limit) in limits.into_iter().chain(memory) {
            register(&self.registry, IntGauge::new(name, help)?)?
                .set(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    pub fn ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    /// For how long the oldest work on the CPU threads has gone on, or has waited for a turn.
    pub fn cpu_oldest(&self, age: Duration) {
        self.cpu_oldest.set(age.as_secs_f64());
    }

    /// One more connection on `port`, until what is returned is dropped.
    pub fn connected(&self, port: &'static str) -> Connected {
        let open = self.connections.with_label_values(&[port]);
        open.inc();
        Connected(open)
    }

    pub fn model_refused(&self) {
        self.model_load_failures.inc();
    }

    /// A store that is read or written by URL failed, after it was tried again.
    pub fn store_failed(&self, store: &'static str) {
        self.store_failures.with_label_values(&[store]).inc();
    }

    /// When the certificate ends that is shown: seconds since 1970. There is none without TLS.
    pub fn certificate_expiry(&self) -> IntGauge {
        let gauge = IntGauge::new(
            "certificate_expiry_seconds",
            "When the certificate ends that is shown, in seconds since 1970.",
        );
        let gauge = gauge.expect("a name of letters, and a help");
        self.registry.register(Box::new(gauge.clone())).expect("a server has one certificate");
        gauge
    }

    /// Counters for the reloads of a file; `file` is what it holds.
    pub fn rereading(&self, file: &'static str) -> Rereading {
        Rereading {
            failures: self.reload_failures.with_label_values(&[file]),
            refused: self.reload_refused.with_label_values(&[file]),
        }
    }

    pub fn served(&self, served: &Served<'_>) {
        self.requests.with_label_values(&[served.route, served.code, served.method]).inc();
        self.request_duration.with_label_values(&[served.route]).observe(served.took.as_secs_f64());
    }

    pub fn queued(&self, waited: Duration) {
        self.queue_duration.observe(waited.as_secs_f64());
    }

    pub fn encoded(&self, tiles: usize, took: Duration) {
        self.encode_duration.observe(took.as_secs_f64());
        self.batch_tiles.observe(tiles as f64);
        self.tiles.inc_by(tiles as u64);
    }

    /// A tile that was encoded, and the PSNR of its reconstruction in dB.
    pub fn reconstructed(&self, model: &str, fidelity: f32) {
        self.fidelity.with_label_values(&[model]).observe(fidelity.into());
    }

    /// Variants, by the share of their values that is clipped.
    pub fn clipped(&self, model: &str, shares: impl Iterator<Item = f32>) {
        let of_model = self.clipped.with_label_values(&[model]);
        shares.for_each(|share| of_model.observe(share.into()));
    }

    /// Tiles whose answers warn that they are unlike what the model was trained on.
    pub fn unfamiliar(&self, model: &str, tiles: usize) {
        if tiles > 0 {
            self.unfamiliar.with_label_values(&[model]).inc_by(tiles as u64);
        }
    }

    /// Time that encoders have worked so far, all of them together.
    pub fn time_encoding(&self) -> Duration {
        Duration::from_secs_f64(self.encode_duration.get_sample_sum())
    }

    pub fn synthesised(&self, variants: usize, took: Duration) {
        self.synthesise_duration.observe(took.as_secs_f64());
        self.variants.inc_by(variants as u64);
    }

    pub fn inflight(&self, tiles: usize, bytes: u64) {
        self.queue_tiles.set(i64::try_from(tiles).unwrap_or(i64::MAX));
        self.inflight_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn cache_asked(&self, held: bool) {
        if held { &self.cache_hits } else { &self.cache_misses }.inc();
    }

    pub fn cache_evicted(&self) {
        self.cache_evictions.inc();
    }

    pub fn cache_bytes(&self, bytes: usize) {
        self.cache_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn cache_disk_errors(&self, errors: u64) {
        self.cache_disk_errors.inc_by(errors);
    }

    pub fn rejected(&self, kind: ErrorKind) {
        self.rejected.with_label_values(&[kind.row().code]).inc();
    }

    /// `outcome`: `let_in`, or the code of the error.
    pub fn key_asked(&self, key: &str, outcome: &str) {
        self.key_requests.with_label_values(&[key, outcome]).inc();
    }

    pub fn model_loaded(&self, took: Duration) {
        self.model_load_duration.observe(took.as_secs_f64());
    }

    /// Sets the gauges of models and domains to what is on offer, read under a lock so that the
    /// last word is the newest.
    pub fn offer(&self, read: impl FnOnce() -> Offered) {
        let mut shown = self.offered.lock().expect("no code panics while it holds this lock");
        let now = read();
        for gone in shown.models.difference(&now.models) {
            // It was set, so it is there to be removed.
            let _ = self.model_info.remove_label_values(&gone.each_ref().map(String::as_str));
        }
        for gone in shown.domains.keys().filter(|domain| !now.domains.contains_key(*domain)) {
            let _ = self.styles.remove_label_values(&[gone]);
        }
        for labels in &now.models {
            self.model_info.with_label_values(labels).set(1);
        }
        for (domain, styles) in &now.domains {
            self.styles
                .with_label_values(&[domain])
                .set(i64::try_from(*styles).unwrap_or(i64::MAX));
        }
        *shown = now;
    }
}

/// How reading files again went.
#[derive(Clone)]
pub struct Rereading {
    failures: IntCounter,
    refused: IntGauge,
}

impl Rereading {
    pub fn went_well(&self, well: bool) {
        self.refused.set((!well).into());
        if !well {
            self.failures.inc();
        }
    }
}

/// A connection, until dropped.
pub struct Connected(IntGauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_starts_with_restain() {
        let metrics = Metrics::new().unwrap();
        metrics.served(&Served {
            route: "/v1/augment",
            method: "POST",
            code: "200",
            took: Duration::from_millis(3),
        });
        let text = metrics.text().unwrap();
        assert!(
            text.contains(
                "restain_requests_total{code=\"200\",method=\"POST\",route=\"/v1/augment\"} 1"
            ),
            "{text}"
        );
        assert!(
            text.lines().all(|line| line.starts_with('#') || line.starts_with("restain_")),
            "{text}"
        );
        #[cfg(target_os = "linux")]
        assert!(text.contains("restain_process_resident_memory_bytes"), "{text}");
    }
}
