//! Options of access: who may connect, and over what.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Config, ConfigError};

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
    // Probes say whether the server is well, and nothing else: they may be seen.
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

#[cfg(test)]
mod tests {
    use super::super::tests::checked;

    #[test]
    fn a_public_address_needs_keys_or_client_certificates_or_consent() {
        for address in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
            let http = format!("--http {address}");
            let said = checked(&http).unwrap_err();
            assert!(
                said.starts_with(&format!("--http {address}")) && said.contains("--insecure"),
                "{said}"
            );
            assert!(checked(&http.replace("http", "grpc")).unwrap_err().starts_with("--grpc"));
            let tls = "--tls-cert c --tls-key k";
            for more in ["--keys k", &format!("{tls} --tls-client-ca a"), "--insecure"] {
                assert_eq!(checked(&format!("{http} {more}")), Ok(()), "{more}");
            }
            assert!(checked(&format!("{http} {tls}")).is_err(), "TLS alone rejects no client");
        }
        for address in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert_eq!(checked(&format!("--http {address} --probes 0.0.0.0:8082")), Ok(()));
        }
    }

    #[test]
    fn half_of_tls_is_rejected() {
        for (flags, said) in [
            ("--tls-cert c", "--tls-cert is set and --tls-key is not"),
            ("--tls-key k", "--tls-key is set and --tls-cert is not"),
            ("--tls-client-ca a", "--tls-client-ca is set and --tls-cert is not"),
        ] {
            assert!(checked(flags).unwrap_err().starts_with(said), "{flags}");
        }
    }

    #[test]
    fn an_origin_has_a_scheme_and_no_path() {
        let origin = |origin: &str| checked(&format!("--cors-origin={origin}"));
        for right in ["*", "https://example.org", "http://localhost:3000"] {
            assert_eq!(origin(right), Ok(()));
        }
        for wrong in ["example.org", "https://", "https://example.org/", "https://a?b", "null", ""]
        {
            assert!(origin(wrong).unwrap_err().contains("--cors-origin"), "{wrong}");
        }
    }
}
