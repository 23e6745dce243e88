//! The check of `Origin`, against cross-site requests and DNS rebinding.
//!
//! Browsers send simple requests of any page without a preflight, from inside the firewall and with
//! whatever client certificate they have. They do send the page's origin, and a page of another
//! origin is refused here. A page that uses DNS rebinding has an origin of its own, so a server
//! that listens on loopback without keys accepts the names of this machine only. Programs other
//! than browsers send no `Origin` and pass.

use std::borrow::Cow;
use std::net::IpAddr;

use axum::extract::Request;
use axum::http::{HeaderName, header};

use crate::serve::config::Config;
use crate::serve::error::{Error, ErrorKind};

/// # Errors
/// `origin_forbidden`, for a page of another origin that `--cors-origin` does not name.
pub(super) fn check_origin(config: &Config, request: &Request) -> Result<(), Error> {
    let text = |name: HeaderName| {
        request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
    };
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    // Over HTTP/2 the host is the authority of the URI.
    let authority = request.uri().authority().map(|authority| Cow::from(authority.as_str()));
    let host = text(header::HOST).or(authority).unwrap_or_default();
    let is_same = origin.split_once("://").is_some_and(|(scheme, authority)| {
        // A server behind a proxy that ends TLS is called from pages under https.
        let is_scheme = config.scheme() == "http" || scheme.eq_ignore_ascii_case("https");
        is_scheme && authority.eq_ignore_ascii_case(&host)
    });
    let is_own = is_same && (!config.is_of_this_machine() || is_this_machine(&host));
    if is_own || config.cors_origin.iter().any(|allowed| allowed == "*" || *allowed == origin) {
        return Ok(());
    }
    let detail = format!(
        "pages of the origin {origin} may not call this server: --cors-origin sets the origins \
        that may"
    );
    Err(Error::new(ErrorKind::OriginForbidden, detail))
}

/// Whether a `Host` is a name that only this machine can have: `localhost`, a name below it, or an
/// address.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_local =
        name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    is_local || name.parse::<IpAddr>().is_ok()
}
