//! Options of the door: who is let in, and over what.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Config, ConfigError};
use crate::serve::access::{Key, Scope};

/// What TLS is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
}

impl Config {
    /// The files of TLS, if it is wanted.
    pub fn tls(&self) -> Option<TlsFiles> {
        let (cert, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(TlsFiles { cert, key, client_ca: self.tls_client_ca.clone() })
    }

    /// Whether it trusts everyone because only this machine reaches it.
    pub fn is_of_this_machine(&self) -> bool {
        is_own(self.http) && self.keys.is_none() && self.tls_client_ca.is_none() && !self.insecure
    }

    /// Whether tokens cross a network that others may listen to.
    pub fn tells_tokens(&self) -> bool {
        self.keys.is_some() && self.tls_cert.is_none() && !(is_own(self.http) && is_own(self.grpc))
    }

    /// What a URL of the HTTP port begins with.
    pub fn scheme(&self) -> &'static str {
        if self.tls().is_some() { "https" } else { "http" }
    }
}

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let parts = [("tls-cert", config.tls_cert.is_some()), ("tls-key", config.tls_key.is_some())];
    let wanted = ("tls-client-ca", config.tls_client_ca.is_some());
    let given = parts.into_iter().chain([wanted]).find(|(_, given)| *given);
    if let (Some((given, _)), Some((missing, _))) =
        (given, parts.into_iter().find(|(_, given)| !given))
    {
        return Err(ConfigError::HalfTls { given, missing });
    }
    if let Some(wrong) = config.cors_origin.iter().find(|origin| !is_origin(origin)) {
        return Err(ConfigError::CorsOrigin(wrong.clone()));
    }
    // Probes tell whether the server is well, and nothing else: they may be seen.
    let asked_for = config.keys.is_some() || config.tls_client_ca.is_some() || config.insecure;
    let public = [("http", config.http), ("grpc", config.grpc)]
        .into_iter()
        .find(|(_, address)| !is_own(*address));
    match public {
        Some((option, address)) if !asked_for => Err(ConfigError::Public { option, address }),
        _ => Ok(()),
    }
}

/// Whether only this machine reaches it.
fn is_own(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// RFC 6454, section 6.2: scheme, host, and a port that is not the scheme's own.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text == "*"
        || host.is_some_and(|host| {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@".contains(&byte))
        })
}

/// What `restain key` takes on its command line.
#[derive(Clone, Debug, clap::Args)]
pub struct KeyArgs {
    /// Whom the key is for; it stands in the log and in metrics
    name: String,
    /// What it is for. May be given several times, or as a list with commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "augment")]
    scope: Vec<Scope>,
    /// Most requests a second
    #[arg(long, value_name = "REQUESTS")]
    requests_per_second: Option<f64>,
    /// Most requests at once after a silence; as many as in a second when left out
    #[arg(long, value_name = "REQUESTS", requires = "requests_per_second")]
    burst: Option<u32>,
    /// Most requests under way at once
    #[arg(long, value_name = "REQUESTS")]
    concurrency: Option<usize>,
}

impl KeyArgs {
    /// The key of `token`.
    ///
    /// # Errors
    /// Says what would make it one that no server takes.
    pub fn key(&self, token: &str) -> Result<Key, String> {
        let Self { requests_per_second, burst, concurrency, .. } = *self;
        let key = Key {
            requests_per_second,
            burst,
            concurrency,
            ..Key::new(&self.name, token, self.scope.iter().copied())
        };
        key.check().map(|()| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::config::Options;

    fn checked(toml: &str) -> Result<(), String> {
        check(&toml::from_str::<Options>(toml).unwrap().over(Options::default()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_others_reach_needs_a_lock_or_a_word() {
        for address in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
            let http = format!("http = \"{address}\"\n");
            let said = checked(&http).unwrap_err();
            assert!(
                said.starts_with(&format!("http is {address}")) && said.contains("insecure"),
                "{said}"
            );
            assert!(checked(&http.replace("http", "grpc")).unwrap_err().starts_with("grpc"));
            for lock in [
                "keys = \"k\"",
                "tls-cert = \"c\"\ntls-key = \"k\"\ntls-client-ca = \"a\"",
                "insecure = true",
            ] {
                assert_eq!(checked(&(http.clone() + lock)), Ok(()), "{lock}");
            }
            assert!(
                checked(&(http.clone() + "tls-cert = \"c\"\ntls-key = \"k\"")).is_err(),
                "TLS alone lets everyone in"
            );
        }
        for address in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert_eq!(
                checked(&format!("http = \"{address}\"\nprobes = \"0.0.0.0:8082\"")),
                Ok(())
            );
        }
    }

    #[test]
    fn half_of_tls_is_refused() {
        assert!(
            checked("tls-cert = \"c\"")
                .unwrap_err()
                .contains("tls-cert is given and tls-key is not")
        );
        assert!(
            checked("tls-key = \"k\"")
                .unwrap_err()
                .contains("tls-key is given and tls-cert is not")
        );
        assert!(
            checked("tls-client-ca = \"a\"")
                .unwrap_err()
                .contains("tls-client-ca is given and tls-cert is not")
        );
    }

    #[test]
    fn an_origin_has_a_scheme_and_no_path() {
        let told = |origin: &str| checked(&format!("cors-origin = [\"{origin}\"]"));
        for origin in ["*", "https://example.org", "http://localhost:3000"] {
            assert_eq!(told(origin), Ok(()));
        }
        for origin in ["example.org", "https://", "https://example.org/", "https://a b", "null", ""]
        {
            assert!(told(origin).unwrap_err().contains("cors-origin"), "{origin}");
        }
    }
}
