//! One crate of integration tests: facts about behaviour, on real parts.

mod architecture;
mod augment;
mod cli;
mod demo;
mod harness;
mod serve;

/// A client, with the cryptography that its packages are built without.
pub(crate) fn client() -> reqwest::blocking::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder()
}
