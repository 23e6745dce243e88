//! The address of a collector, as it is given and as it is asked.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use serde::{Deserialize, Serialize};

/// Where OTLP over HTTP takes spans, below the collector's own path.
const TRACES: &str = "/v1/traces";
/// The port of OTLP over HTTP.
const PORT: u16 = 4318;

/// A collector that is spoken to without TLS: one beside this server, or in its cluster, which speaks TLS to the outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Collector {
    pub host: String,
    pub port: u16,
    /// What is asked for spans to be taken.
    pub path: String,
}

impl FromStr for Collector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("`{text}` is no collector's address, {why}: write http://HOST:4318")
        };
        let uri: Uri = text.parse().map_err(|_| wrong("which is a URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong(
                "which begins with http:// (a collector nearby speaks TLS to those far away)",
            ));
        }
        let authority = uri.authority().ok_or_else(|| wrong("which names a host"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong("which has neither a password nor a query"));
        }
        let below = uri.path().trim_end_matches('/');
        let path =
            if below.ends_with(TRACES) { below.to_owned() } else { format!("{below}{TRACES}") };
        Ok(Self {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(PORT),
            path,
        })
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, path } = self;
        write!(f, "http://{host}:{port}{}", path.trim_end_matches(TRACES))
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
        collector.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_written() {
        for (given, path, written) in [
            ("http://collector:4318", "/v1/traces", "http://collector:4318"),
            ("http://collector", "/v1/traces", "http://collector:4318"),
            ("http://[::1]:9/otlp/", "/otlp/v1/traces", "http://[::1]:9/otlp"),
            ("http://c:1/v1/traces", "/v1/traces", "http://c:1"),
        ] {
            let collector: Collector = given.parse().unwrap();
            assert_eq!((collector.path.as_str(), collector.to_string().as_str()), (path, written));
            assert_eq!(written.parse(), Ok(collector));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (given, said) in [
            ("collector:4318", "http://"),
            ("https://collector:4318", "TLS"),
            ("http://user:secret@collector", "password"),
            ("http://collector?key=secret", "query"),
            ("not a url", "URL"),
        ] {
            let error = given.parse::<Collector>().unwrap_err();
            assert!(error.contains(said), "{given}: {error}");
        }
    }
}
