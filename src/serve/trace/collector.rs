//! The address of an OpenTelemetry collector that takes OTLP over HTTP.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use serde::{Deserialize, Serialize};

/// Where OTLP over HTTP takes spans, below the collector's own path.
const TRACES: &str = "/v1/traces";
/// The port of OTLP over HTTP, where a plain URL names none.
const PORT: u16 = 4318;

/// A URL without `/v1/traces`. It has no place for credentials: those belong into
/// `OTEL_EXPORTER_OTLP_HEADERS`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Collector(String);

impl Collector {
    /// The URL that spans are posted to.
    pub fn endpoint(&self) -> String {
        format!("{}{TRACES}", self.0)
    }
}

impl FromStr for Collector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("`{text}` is not the URL of a collector: {why}, for example http://HOST:4318")
        };
        let uri: Uri = text.parse().map_err(|_| wrong("write a URL"))?;
        let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme));
        let scheme = scheme.ok_or_else(|| wrong("begin it with http:// or https://"))?;
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("leave out the password; OTEL_EXPORTER_OTLP_HEADERS carries it"));
        }
        if uri.query().is_some() {
            return Err(wrong("leave out the query"));
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix(TRACES).unwrap_or(path);
        let port = match (authority.port_u16(), scheme) {
            (Some(port), _) => format!(":{port}"),
            (None, "http") => format!(":{PORT}"),
            (None, _) => String::new(),
        };
        Ok(Self(format!("{scheme}://{}{port}{path}", authority.host())))
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Collector {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Collector> for String {
    fn from(collector: Collector) -> Self {
        collector.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        for (given, endpoint, written) in [
            ("http://collector:4318", "http://collector:4318/v1/traces", "http://collector:4318"),
            ("http://collector", "http://collector:4318/v1/traces", "http://collector:4318"),
            ("https://collector", "https://collector/v1/traces", "https://collector"),
            ("http://[::1]:9/otlp/", "http://[::1]:9/otlp/v1/traces", "http://[::1]:9/otlp"),
            ("https://c:1/v1/traces", "https://c:1/v1/traces", "https://c:1"),
        ] {
            let collector: Collector = given.parse().unwrap();
            assert_eq!(
                (collector.endpoint().as_str(), collector.to_string().as_str()),
                (endpoint, written)
            );
            assert_eq!(written.parse(), Ok(collector));
        }
    }

    #[test]
    fn a_wrong_address_is_refused_with_the_reason() {
        for (given, said) in [
            ("collector:4318", "http://"),
            ("grpc://collector:4317", "https://"),
            ("http://user:secret@collector", "password"),
            ("http://collector?key=secret", "query"),
            ("not a url", "URL"),
        ] {
            let error = given.parse::<Collector>().unwrap_err();
            assert!(error.contains(said), "{given}: {error}");
        }
    }
}
