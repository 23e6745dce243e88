//! The address of the server.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;
use hyper::header::HeaderValue;
use serde::{Serialize, Serializer};

/// A host and a port that speak HTTP without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    /// The value of the `authorization` header. It is never printed.
    pub authorization: Option<HeaderValue>,
}

/// Returns the `authorization` header of a key.
///
/// # Errors
/// When a header cannot hold it.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
    let mut value =
        value.map_err(|_| "the key holds what no header may, such as a line break".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole
            .parse()
            .map_err(|error| format!("`{text}` is no URL ({error}): write http://HOST:PORT"))?;
        match uri.scheme_str() {
            Some("http") => {}
            _ => {
                return Err(format!(
                    "`{text}` is not http://…: load the server itself, behind whatever ends its TLS"
                ));
            }
        }
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(format!("`{text}` has a path: write http://HOST:PORT alone"));
        }
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| format!("`{text}` names no host: write http://HOST:PORT"))?;
        // Brackets belong to the URL, and not to an address.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(80), authorization: None })
    }
}

impl Target {
    /// Returns `HOST:PORT`, the value of the `Host` header.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_enough_and_what_cannot_be_reached_is_refused() {
        let read = |text: &str| text.parse::<Target>().map(|target| target.to_string());
        assert_eq!(read("127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(read("http://tiles.local/").unwrap(), "http://tiles.local:80");
        assert_eq!(read("http://[::1]:8080").unwrap(), "http://[::1]:8080");
        assert!(read("https://tiles.local").unwrap_err().contains("TLS"));
        assert!(read("http://tiles.local/v1/augment").unwrap_err().contains("path"));
        assert!(read("http://").is_err() && read("").is_err());
    }
}
