//! The door of HTTP: which route needs which scope, and what a request without one is told. Nothing of a body is read
//! before.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::serve::access::{Scope, Standing};
use crate::serve::app::App;
use crate::serve::config::Config;
use crate::serve::error::{Error, ErrorKind};

/// The internet draft "RateLimit header fields for HTTP" (ietf-httpapi-ratelimit-headers, 10).
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Seconds for which a browser may remember what it may ask.
const PREFLIGHT_SECONDS: u64 = 3600;

/// Whose key a request came with, for the log; an extension of its response.
#[derive(Clone)]
pub(super) struct KeyName(pub Arc<str>);

/// What a route is for. `None` is open: probes, and pages that hold nothing of the server's.
pub(super) fn scope(method: &Method, route: &str) -> Option<Scope> {
    let write = matches!(*method, Method::POST | Method::DELETE);
    match route {
        "/" | "/openapi.json" | "/health/live" | "/health/ready" | "/v2/health/live"
        | "/v2/health/ready" => None,
        _ if route == "/docs" || route.starts_with("/docs/") => None,
        "/metrics" => Some(Scope::Metrics),
        _ if route.starts_with("/v2/") && route.ends_with("/stats") => Some(Scope::Metrics),
        "/v1/styles" | "/v1/styles/{domain}" if write => Some(Scope::Styles),
        _ if write && (route.ends_with("/load") || route.ends_with("/unload")) => {
            Some(Scope::Models)
        }
        _ => Some(Scope::Augment),
    }
}

pub(super) async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
    let Some(scope) = scope(request.method(), route) else { return next.run(request).await };
    if let Err(error) = check_origin(&app.config, request.headers()) {
        return error.into_response();
    }
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let verdict = app.access.judge(authorization, scope);
    let mut response = match verdict.pass {
        Ok(pass) => {
            let key = pass.name();
            let mut response = next.run(request).await.map(|body| Body::new(pass.with(body)));
            if let Some(key) = key {
                response.extensions_mut().insert(KeyName(key));
            }
            response
        }
        Err(error) => error.into_response(),
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"restain\""));
    }
    if let Some(standing) = verdict.standing {
        add_rate_limit(response.headers_mut(), standing);
    }
    response
}

/// Browsers send simple requests of any page's without asking first, from inside the firewall and with whatever certificate they
/// have; they say whose page it is, and a page of another origin is refused here. One whose name leads to this machine by
/// a trick has an origin of its own, so a server that only this machine reaches, and that asks for no key, is at home
/// under this machine's names alone. Programs send no `Origin`, and are not judged by it.
fn check_origin(config: &Config, headers: &HeaderMap) -> Result<(), Error> {
    let text = |name: HeaderName| {
        headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let Some(origin) = text(header::ORIGIN) else { return Ok(()) };
    let host = text(header::HOST).unwrap_or_default();
    let is_same = origin
        .split_once("://")
        .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(&host));
    let is_own = is_same && (!config.is_of_this_machine() || is_this_machine(&host));
    if is_own || config.cors_origin.iter().any(|allowed| allowed == "*" || *allowed == origin) {
        return Ok(());
    }
    let detail =
        format!("a page of {origin} may not ask this server: --cors-origin names those that may");
    Err(Error::new(ErrorKind::OriginForbidden, detail))
}

/// Whether a `Host` is a name of the machine that nobody else can lead to it.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_local =
        name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    is_local || name.parse::<IpAddr>().is_ok()
}

fn add_rate_limit(headers: &mut HeaderMap, standing: Standing) {
    let Standing { burst, window, left, next } = standing;
    let seconds = |time: Duration| time.as_secs_f64().ceil() as u64;
    let policy = format!("\"key\";q={burst};w={}", seconds(window).max(1));
    let state = format!("\"key\";r={left};t={}", seconds(next));
    for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
        headers.insert(name, HeaderValue::from_str(&value).expect("numbers in ASCII"));
    }
}

/// For pages of other origins. Without credentials in the sense of the Fetch standard: a page that has a key sends it.
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
