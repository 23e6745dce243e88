//! The standard `OTEL_…` variables, where this program has to read them itself: whether traces are
//! exported, how long a batch may take, which certificates are trusted, and the service's name.
//! `opentelemetry-otlp` and the SDK read the others: endpoint, headers, resource attributes, queue
//! and batch.
//!
//! `--otlp` and `--trace-share` take precedence over `OTEL_EXPORTER_OTLP_ENDPOINT` and the sampler
//! of the environment.

use std::time::Duration;

use super::Config;
use crate::serve::trace::{Collector, Export};

/// The specification's default.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Config {
    /// How traces are exported; `None` when neither `--otlp` nor the environment names a collector.
    #[expect(clippy::disallowed_methods, reason = "the names of the variables are OpenTelemetry's")]
    pub(crate) fn traces(&self) -> Option<Export> {
        let variable =
            |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        export(self.otlp.as_ref(), self.trace_share, variable)
    }
}

fn export(
    collector: Option<&Collector>,
    share: f64,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<Export> {
    // A variable for traces goes before the one for all signals.
    let otlp = |name: &str| {
        variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
            .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
    };
    let is_off = variable("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true"))
        || variable("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none");
    if collector.is_none() && (is_off || otlp("ENDPOINT").is_none()) {
        return None;
    }
    Some(Export {
        collector: collector.cloned(),
        timeout: otlp("TIMEOUT").and_then(|text| milliseconds(&text)).unwrap_or(TIMEOUT),
        certificate: otlp("CERTIFICATE").map(Into::into),
        service_name: variable("OTEL_SERVICE_NAME"),
        share,
    })
}

/// A number that cannot be read counts as not given, as the specification asks, and is warned of.
fn milliseconds(text: &str) -> Option<Duration> {
    let number = text.trim().parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    if number.is_none() {
        tracing::warn!(
            value = text,
            "OTEL_EXPORTER_OTLP_TIMEOUT must be milliseconds, for example 10000"
        );
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exported(collector: Option<&str>, variables: &[(&str, &str)]) -> Option<Export> {
        let collector: Option<Collector> = collector.map(|url| url.parse().unwrap());
        export(collector.as_ref(), 1.0, |name| {
            variables.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");

    #[test]
    fn a_flag_or_the_environment_turns_traces_on() {
        assert!(exported(None, &[]).is_none());
        assert!(exported(Some("http://c"), &[]).is_some());
        assert!(exported(None, &[ENDPOINT]).is_some_and(|export| export.collector.is_none()));
        assert!(exported(None, &[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]).is_none());
        assert!(exported(None, &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]).is_none());
    }

    #[test]
    fn a_variable_for_traces_goes_before_that_for_all_signals() {
        let of_all = ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000");
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "300");
        let timeout =
            |variables: &[(&str, &str)]| exported(Some("http://c"), variables).unwrap().timeout;
        assert_eq!(timeout(&[]), TIMEOUT);
        assert_eq!(timeout(&[of_all]), Duration::from_secs(2));
        assert_eq!(timeout(&[of_all, of_traces]), Duration::from_millis(300));
        assert_eq!(timeout(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")]), TIMEOUT);
    }
}
