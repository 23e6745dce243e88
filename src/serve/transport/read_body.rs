//! A request's body over HTTP, read into memory that admission has lent for it, and what is JSON in it. What the body says
//! is its transport's question.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::serve::admission::Permit;
use crate::serve::app::App;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::pipeline::deadline_exceeded;

/// A body in memory that was lent for it.
///
/// # Errors
/// When it is too large, comes too slowly, or finds no room.
pub(crate) async fn read_body(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    received: Instant,
) -> Result<(Bytes, Arc<Permit>), Error> {
    let limit = usize::try_from(app.config.max_body.0).unwrap_or(usize::MAX);
    let announced = announced(headers, limit)?;
    let permit = app.admission.admit_body(announced.unwrap_or(limit) as u64)?;
    let timeout = app.config.request_timeout.0;
    let bytes = tokio::time::timeout_at((received + timeout).into(), read_limited(body, limit));
    Ok((bytes.await.map_err(|_| deadline_exceeded(timeout))??, permit))
}

/// The whole body, of at most `limit` bytes.
///
/// # Errors
/// `body_too_large`, or `malformed_request` when the caller broke off.
pub(crate) async fn read_limited(body: Body, limit: usize) -> Result<Bytes, Error> {
    to_bytes(body, limit).await.map_err(|error| {
        let past_limit = std::error::Error::source(&error)
            .is_some_and(|source| source.to_string().contains("length limit"));
        if past_limit {
            too_large(limit)
        } else {
            malformed(format!("the body broke off: {error}"))
        }
    })
}

/// How large the body says it is, if it does.
fn announced(headers: &HeaderMap, limit: usize) -> Result<Option<usize>, Error> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) { Err(too_large(limit)) } else { Ok(length) }
}

fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorKind::BodyTooLarge,
        format!(
            "the body is larger than the {limit} bytes that are taken: send fewer tiles at once"
        ),
    )
}

pub(crate) fn malformed(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::MalformedRequest, detail)
}

/// Serde would take the fields of an object from a list too, in their order.
pub(crate) fn object(json: &[u8]) -> Result<(), &'static str> {
    match json.trim_ascii_start().first() {
        Some(b'[') => Err("a list"),
        None => Err("empty"),
        _ => Ok(()),
    }
}

/// An object of JSON; `what` it is stands in the error.
///
/// # Errors
/// `malformed_request`, with the field at fault.
pub(crate) fn json_object<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    object(bytes)
        .map_err(|found| malformed(format!("{what} is {found}, and must be an object")))?;
    serde_json::from_slice(bytes).map_err(|error| malformed(format!("{what}: {error}")))
}
