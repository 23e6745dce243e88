//! Cross-origin resource sharing: what a browser may do for pages of the origins that
//! `--cors-origin` names.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// How long a browser may cache the answer to a preflight.
const PREFLIGHT_SECONDS: u64 = 3600;

/// Answers preflights for `origins`. Without credentials in the sense of the Fetch standard: a page
/// that has a key sends it.
pub(super) fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(
            origins
                .iter()
                .map(|origin| HeaderValue::from_str(origin).expect("options are checked")),
        )
    };
    let exposed = [
        "x-request-id",
        "server-timing",
        "restain-provenance",
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
    ];
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(Duration::from_secs(PREFLIGHT_SECONDS))
}
