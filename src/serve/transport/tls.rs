//! TLS on both ports: one certificate, read again when its files change, and if wanted certificates
//! of clients.
//!
//! TLS 1.2 and 1.3 with rustls' own choice of ciphers. What is spoken inside is settled by ALPN,
//! and each port offers its own protocol alone. A connection keeps the certificate that it began
//! with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::serve::config::TlsFiles;
use crate::serve::metrics::Metrics;
use crate::serve::runtime::reload::{Reread, RereadError};

/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What is spoken on a port, inside of TLS or without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// Without an upgrade, as gRPC has it.
    Http2,
}

/// What a certificate comes to, for each port.
struct Configs {
    http1: Arc<ServerConfig>,
    http2: Arc<ServerConfig>,
    /// Seconds since 1970.
    ends: i64,
}

#[derive(Clone)]
pub struct Tls(Arc<Reread<Configs>>);

impl Tls {
    /// # Errors
    /// When a file cannot be read, holds something else, or key and certificate do not belong
    /// together.
    pub fn open(files: &TlsFiles, metrics: &Metrics) -> Result<Self, RereadError> {
        let mut paths: Vec<PathBuf> = vec![files.cert.clone(), files.key.clone()];
        paths.extend(files.client_ca.clone());
        let ends = metrics.certificate_expiry();
        let parse = move |files: &[Vec<u8>]| {
            let configs = parse(files)?;
            ends.set(configs.ends);
            Ok(configs)
        };
        Ok(Self(Reread::open(paths, metrics.rereading("tls"), parse)?))
    }

    /// Reads the files again when they change, until dropped.
    pub async fn watch(self) {
        self.0.watch().await;
    }

    /// Shakes hands, with the certificate as it is now.
    ///
    /// # Errors
    /// When the peer breaks off, offers nothing that is spoken here, or takes too long.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        protocol: Protocol,
    ) -> std::io::Result<TlsStream<S>> {
        let configs = self.0.current();
        let config = match protocol {
            Protocol::Http1 => &configs.http1,
            Protocol::Http2 => &configs.http2,
        };
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

/// `files`: the certificate with what leads up to its root, its key, and the roots of clients'
/// certificates if wanted.
fn parse(files: &[Vec<u8>]) -> Result<Configs, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has what TLS 1.2 and 1.3 need");
    let chain = certificates(&files[0]).map_err(|error| format!("tls-cert: {error}"))?;
    let ends = ends(&chain[0]).map_err(|error| format!("tls-cert: {error}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    if ends < i64::try_from(now).unwrap_or(i64::MAX) {
        return Err("tls-cert: the certificate has expired".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(&files[1])
        .map_err(|error| format!("tls-key: no private key in PEM ({error})"))?;
    let builder = match files.get(2) {
        Some(roots) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(
                Arc::new(trusted(roots)?),
                provider as Arc<CryptoProvider>,
            )
            .build()
            .map_err(|error| format!("tls-client-ca: {error}"))?,
        ),
        None => builder.with_no_client_auth(),
    };
    let config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("tls-cert and tls-key: {error}"))?;
    let speaking = |protocol: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    };
    Ok(Configs { http1: speaking(b"http/1.1"), http2: speaking(b"h2"), ends })
}

fn ends(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    Ok(certificate.validity().not_after.timestamp())
}

fn trusted(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for root in certificates(pem).map_err(|error| format!("tls-client-ca: {error}"))? {
        store.add(root).map_err(|error| format!("tls-client-ca: {error}"))?;
    }
    Ok(store)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if found.is_empty() { Err("no certificate in PEM".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_something_else_are_named() {
        let said = |files: &[&str]| {
            parse(&files.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>())
                .err()
                .unwrap()
        };
        assert!(said(&["", ""]).starts_with("tls-cert: no certificate"));
        let broken = "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n";
        assert!(said(&[broken, ""]).starts_with("tls-cert: "));
        let empty = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert!(said(&[empty, ""]).starts_with("tls-cert: "));
    }
}
