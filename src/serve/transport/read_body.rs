//! Reads a request's body over HTTP, once admission has granted the memory, and the JSON in it. Its
//! meaning is the transport's concern. A body that comes compressed is bounded, and accounted for,
//! by what it unpacks to.
//!
//! What is lent is what taking the body apart needs: a body that is used where it lies needs its
//! own size, and one of JSON or of parts is copied, and decoded from base64.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use super::inflate::{Account, Encoding, Inflater};
use crate::serve::admission::Permit;
use crate::serve::app::App;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::pipeline::deadline_exceeded;

/// Bodies up to this long are taken apart where they are; longer ones are work for a CPU thread.
const SHORT_BODY: usize = 64 << 10;

/// Memory for a body is lent in steps of so many bytes, as it comes.
const LENT_AT_ONCE: usize = 64 << 10;

/// Compressed bytes are taken in pieces of so many, and other tasks run between them.
const INFLATED_AT_ONCE: usize = 16 << 10;

/// How much of a body is copied when it is taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Copied {
    /// Tensors and pictures are used where they lie.
    Nothing,
    /// As many bytes from its beginning.
    Head(usize),
    All,
}

impl Copied {
    /// What is lent for a body of so many bytes. A copy of a text and what is decoded from it are
    /// at most twice the text.
    fn lent(self, bytes: u64) -> u64 {
        bytes.saturating_add(match self {
            Self::Nothing => 0,
            Self::Head(head) => (head as u64).min(bytes).saturating_mul(2),
            Self::All => bytes.saturating_mul(2),
        })
    }
}

/// Reads a body into memory, and returns the permit for it and for what is copied of it.
///
/// # Errors
/// When it is too large, comes too slowly, or finds no room.
pub(crate) async fn read_body(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    received: Instant,
    copied: Copied,
) -> Result<(Bytes, Arc<Permit>), Error> {
    let limit = usize::try_from(app.config.max_body.0).unwrap_or(usize::MAX);
    let encoding = encoding(headers)?;
    let announced = announced(headers, limit)?;
    // What would not fit now is refused now. It is lent as it comes: who announces much and sends
    // nothing holds nothing.
    drop(app.admission.admit_body(copied.lent(announced.unwrap_or(0) as u64))?);
    let mut lent = 0;
    let permit = app.admission.admit_body(lent)?;
    let growing = Arc::clone(&permit);
    let account = move |length: usize| {
        let wanted = copied.lent(length.next_multiple_of(LENT_AT_ONCE).min(limit) as u64);
        let more = wanted.saturating_sub(lent);
        lent += more;
        if more == 0 { Ok(()) } else { growing.grow(more) }
    };
    let timeout = app.config.request_timeout.0;
    let gathered = gather(body, encoding, limit, Box::new(account));
    let bytes = tokio::time::timeout_at((received + timeout).into(), gathered);
    let bytes = bytes.await.map_err(|_| deadline_exceeded(timeout))??;
    Ok((bytes, permit))
}

/// Reads a body that is a field or two, at most `limit` bytes, for which nothing is lent.
///
/// # Errors
/// `body_too_large`, `malformed_request` when the caller broke off, `deadline_exceeded`,
/// `unsupported_encoding`.
pub(crate) async fn read_short(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Bytes, Error> {
    let timeout = app.config.request_timeout.0;
    let gathered = gather(body, encoding(headers)?, limit, Box::new(|_| Ok(())));
    let bytes = tokio::time::timeout(timeout, gathered);
    bytes.await.map_err(|_| deadline_exceeded(timeout))?
}

/// Reads a body of at most `limit` bytes into one piece of memory: pieces of a byte each would need
/// many times their size. `account` learns how long it is before each piece is taken.
async fn gather(
    mut body: Body,
    encoding: Encoding,
    limit: usize,
    mut account: Account,
) -> Result<Bytes, Error> {
    if encoding != Encoding::Identity && !body.is_end_stream() {
        let inflater = Inflater::new(encoding, &[], limit, account);
        return gather_compressed(body, inflater, limit).await;
    }
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ended_early)?;
        let Ok(data) = frame.into_data() else { continue };
        if gathered.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        account(gathered.len() + data.len())?;
        if gathered.is_empty() && body.is_end_stream() {
            // The whole of a small body, as it came.
            return Ok(data);
        }
        if gathered.capacity() == 0 {
            let announced = body.size_hint().exact().unwrap_or_default();
            let rest = usize::try_from(announced).unwrap_or(limit).min(limit);
            gathered.reserve(data.len() + rest);
        }
        gathered.extend_from_slice(&data);
    }
    Ok(gathered.freeze())
}

/// As `gather`. Compressed bytes that unpack to nothing are bounded too.
async fn gather_compressed(
    mut body: Body,
    mut inflater: Inflater,
    limit: usize,
) -> Result<Bytes, Error> {
    let mut taken = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ended_early)?.into_data() else { continue };
        taken += data.len();
        if taken > limit {
            return Err(too_large(limit));
        }
        for piece in data.chunks(INFLATED_AT_ONCE) {
            inflater.feed(piece)?;
            tokio::task::consume_budget().await;
        }
    }
    inflater.finish().map(BytesMut::freeze)
}

/// How the body is encoded.
fn encoding(headers: &HeaderMap) -> Result<Encoding, Error> {
    let values = headers.get_all(header::CONTENT_ENCODING);
    Encoding::of("Content-Encoding", values.iter().map(HeaderValue::as_bytes))
}

fn ended_early(error: axum::Error) -> Error {
    malformed(format!("the body ended early: {error}"))
}

/// Takes a body of so many bytes apart: on a CPU thread where it is long.
///
/// # Errors
/// Those of `parse`.
pub(crate) async fn parse_body<T: Send + 'static>(
    app: &App,
    bytes: usize,
    parse: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if bytes <= SHORT_BODY { parse() } else { app.cpu.run(parse).await? }
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

/// Whether a body that may be left out was: null is nothing.
pub(crate) fn is_absent(json: &[u8]) -> bool {
    matches!(json.trim_ascii(), b"" | b"null")
}
