//! The address of the server.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hyper::Uri;
use hyper::header::HeaderValue;
use rustls::ClientConfig;
use serde::{Serialize, Serializer};

/// A host and a port that speak HTTP.
#[derive(Clone, Debug)]
pub struct Target {
    pub host: String,
    pub port: u16,
    /// Whether they speak it inside of TLS.
    pub is_secure: bool,
    /// How hands are shaken then; set once all options are known.
    pub tls: Option<Arc<ClientConfig>>,
    /// The value of the `authorization` header. It is never printed. Errors hold a target, and stay
    /// small.
    pub authorization: Option<Box<HeaderValue>>,
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
        let (is_secure, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(format!("`{text}` begins with neither http:// nor https://")),
        };
        if uri.path_and_query().is_some_and(|path| path.as_str() != "/") {
            return Err(format!("`{text}` has a path: write http://HOST:PORT alone"));
        }
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| format!("`{text}` names no host: write http://HOST:PORT"))?;
        // Brackets belong to the URL, and not to an address.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(port);
        Ok(Self { host, port, is_secure, tls: None, authorization: None })
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
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
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
        assert_eq!(read("https://tiles.local").unwrap(), "https://tiles.local:443");
        assert!(read("grpc://tiles.local").unwrap_err().contains("https://"));
        assert!(read("http://tiles.local/v1/augment").unwrap_err().contains("path"));
        assert!(read("http://").is_err() && read("").is_err());
    }
}
