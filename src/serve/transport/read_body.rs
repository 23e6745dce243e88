//! Reads a request's body over HTTP, once admission has granted the memory, and the JSON in it. Its
//! meaning is the transport's concern.

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

/// Reads a body into memory, and returns the permit for it.
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

/// Reads a body of at most `limit` bytes.
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
            malformed(format!("the body ended early: {error}"))
        }
    })
}

/// The `content-length`, if there is one.
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
        format!("the body is larger than the limit of {limit} bytes: send fewer tiles at once"),
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
