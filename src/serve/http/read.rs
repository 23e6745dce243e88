//! A request off the wire, its bytes admitted before they are read.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use bytes::Bytes;

use super::body::{self, Ask, BodyKind, Parsed};
use super::parts::malformed;
use crate::serve::admission::Permit;
use crate::serve::app::App;
use crate::serve::error::Error;
use crate::serve::pipeline::{Request as PipelineRequest, deadline_exceeded};

/// The one part of the path that a caller chooses. axum's own extractor would refuse it in plain text.
pub struct PathPart(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathPart {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let part = Path::from_request_parts(parts, state).await;
        part.map(|Path(part)| Self(part)).map_err(|rejection| malformed(format!("the path: {}", rejection.body_text())))
    }
}

/// The request, and whether its body was one picture.
///
/// # Errors
/// When it cannot be read, is too large, or comes too slowly.
pub async fn read<A: Ask>(app: &App, request: Request, received: Instant) -> Result<(PipelineRequest<A>, bool), Error> {
    let (head, body) = request.into_parts();
    let kind = BodyKind::of(&head.headers)?;
    let from_image = kind == BodyKind::Image;
    let (bytes, permit) = whole(app, &head.headers, body, received).await?;
    let Parsed { ask, tiles, references } = kind.parse(bytes, head.uri.query()).await?;
    Ok((PipelineRequest { ask, tiles, references, received, permit }, from_image))
}

/// A body in memory that was lent for it.
///
/// # Errors
/// When it is too large, comes too slowly, or finds no room.
pub async fn whole(app: &App, headers: &HeaderMap, body: Body, received: Instant) -> Result<(Bytes, Arc<Permit>), Error> {
    let limit = usize::try_from(app.config.max_body.0).unwrap_or(usize::MAX);
    let announced = body::announced(headers, limit)?;
    let permit = app.admission.admit_body(announced.unwrap_or(limit) as u64)?;
    let timeout = app.config.request_timeout.0;
    let bytes = tokio::time::timeout_at((received + timeout).into(), body::read(body, limit));
    Ok((bytes.await.map_err(|_| deadline_exceeded(timeout))??, permit))
}
