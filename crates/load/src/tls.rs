//! TLS towards a server: which certificates are trusted, and which one is shown.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;

/// Certificates, for servers behind `https://`.
#[derive(Clone, Debug, Default, Serialize, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// Trust servers whose certificate was issued by a root in this PEM file [default: the
    /// system's roots]
    #[arg(long, value_name = "FILE")]
    pub ca_certs: Option<PathBuf>,
    /// Present this certificate, PEM, to a server with --tls-client-ca; needs --client-key
    #[arg(long, value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// The private key of --client-cert, PEM
    #[arg(long, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Checks the options for a URL without TLS.
    ///
    /// # Errors
    /// In one sentence, if one of them is set.
    pub fn check_unused(&self) -> Result<(), String> {
        let Self { ca_certs, client_cert, client_key } = self;
        let is_set = [ca_certs, client_cert, client_key].iter().any(|path| path.is_some());
        match is_set {
            true => Err("--ca-certs, --client-cert and --client-key need a URL that begins with \
                         https://"
                .to_owned()),
            false => Ok(()),
        }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// In one sentence, which file is wrong and why.
    pub fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has what TLS 1.2 and 1.3 need")
            .with_root_certificates(self.roots()?);
        let config = match (&self.client_cert, &self.client_key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let chain = certificates("--client-cert", cert)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
                    format!("--client-key {}: no private key in PEM ({error})", key.display())
                })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| format!("--client-cert and --client-key: {error}"))?
            }
            (Some(_), None) => return Err("--client-cert needs --client-key".to_owned()),
            (None, Some(_)) => return Err("--client-key needs --client-cert".to_owned()),
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let Some(path) = &self.ca_certs else {
            // Of the system's some may be of kinds that are unknown here.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        for certificate in certificates("--ca-certs", path)? {
            roots
                .add(certificate)
                .map_err(|error| format!("--ca-certs {}: {error}", path.display()))?;
        }
        Ok(roots)
    }
}

/// Returns the name that the certificate of a server must have.
///
/// # Errors
/// When the host is neither a name nor an address.
pub fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| io::Error::other(format!("`{host}` is neither a host name nor an address")))
}

fn certificates(option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |what: String| format!("{option} {}: {what}", path.display());
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(|found| found.collect::<Result<Vec<_>, _>>())
        .map_err(|error| wrong(error.to_string()))?;
    match certificates.is_empty() {
        true => Err(wrong("no certificate in PEM".to_owned())),
        false => Ok(certificates),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_no_certificate_are_named_with_their_option() {
        let said = |args: TlsArgs| args.config().unwrap_err();
        let empty = tempfile::NamedTempFile::new().unwrap();
        let path = Some(empty.path().to_owned());
        let name = empty.path().display();
        let roots = TlsArgs { ca_certs: path.clone(), ..TlsArgs::default() };
        assert_eq!(said(roots.clone()), format!("--ca-certs {name}: no certificate in PEM"));
        assert!(roots.check_unused().is_err() && TlsArgs::default().check_unused().is_ok());
        let alone = TlsArgs { client_cert: path, ..TlsArgs::default() };
        assert_eq!(said(alone), "--client-cert needs --client-key");
        let absent = TlsArgs { ca_certs: Some("absent.pem".into()), ..TlsArgs::default() };
        assert!(said(absent).starts_with("--ca-certs absent.pem: "));
    }
}
