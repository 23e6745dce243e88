//! The layer that checks a request's origin, key and scope before anything of its body is read.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::guarded_body::GuardedBody;
use super::origin::check_origin;
use super::route::Permission;
use super::{Frame, Matched, Peer};
use crate::serve::access::{Pass, Scope, Standing};
use crate::serve::cache::Tenant;
use crate::serve::caller::{Caller, CallerName};
use crate::serve::config::Config;
use crate::serve::error::{Error, ErrorKind};

/// The internet draft "RateLimit header fields for HTTP" (ietf-httpapi-ratelimit-headers, 10).
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What a request needs that no route fits: callers without a key learn nothing about paths.
const UNMATCHED: Permission = Permission::Needs(Scope::Augment);

/// The name of the key that a request came with, for the log; an extension of its response.
#[derive(Clone)]
pub(super) struct KeyName(pub Arc<str>);

pub(super) async fn check_access(
    State(frame): State<Frame>,
    mut request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<Matched>().and_then(|matched| matched.0.as_ref());
    let Permission::Needs(scope) = matched.map_or(UNMATCHED, |route| route.rules.permission) else {
        return next.run(request).await;
    };
    let checked = check_once(request.headers());
    if let Err(error) = checked.and_then(|()| check_origin(&frame.app.config, &request)) {
        return (frame.refuse)(error);
    }
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let verdict = frame.app.access.judge(authorization, scope);
    let mut response = match verdict.pass {
        Ok(pass) => {
            let caller = caller(&pass, &request);
            let key = match &caller.name {
                CallerName::Key(name) => Some(Arc::clone(name)),
                CallerName::Address(_) | CallerName::Server => None,
            };
            // Streams are judged again, message by message.
            request.extensions_mut().insert(pass.ticket());
            request.extensions_mut().insert(tenant(&frame.app.config, key.as_deref()));
            let response = caller.clone().scope(next.run(request)).await;
            let guarded = |body| Body::new(caller.run(|| GuardedBody::new(body, pass)));
            let mut response = response.map(guarded);
            if let Some(key) = key {
                response.extensions_mut().insert(KeyName(key));
            }
            response
        }
        Err(error) => (frame.refuse)(error),
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

/// Who a request is from: the holder of its key, or else its address.
fn caller(pass: &Pass, request: &Request) -> Caller {
    let address = || request.extensions().get::<Peer>().map(|peer| Caller::at(peer.0));
    pass.caller().cloned().or_else(address).unwrap_or_default()
}

/// Whose encodings a request may use: those of its key's holder, unless all share theirs.
fn tenant(config: &Config, key: Option<&str>) -> Tenant {
    key.filter(|_| !config.share_encodings).map_or(Tenant::SHARED, Tenant::named)
}

/// Of a header that decides who may do what there is one: of two, a proxy may have read the other.
///
/// # Errors
/// `malformed_request`.
fn check_once(headers: &HeaderMap) -> Result<(), Error> {
    for name in [header::AUTHORIZATION, header::HOST, header::ORIGIN] {
        if headers.get_all(&name).iter().nth(1).is_some() {
            return Err(Error::new(ErrorKind::MalformedRequest, format!("{name} is given twice")));
        }
    }
    Ok(())
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
