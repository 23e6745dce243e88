//! A request off the wire, its bytes admitted before they are read.

use std::time::Instant;

use axum::extract::{FromRequestParts, Path, Request};
use axum::http::request::Parts;

use restain_request::Operation;

use super::body::{BodyKind, Parsed};
use crate::serve::app::App;
use crate::serve::cache::Tenant;
use crate::serve::error::Error;
use crate::serve::pipeline::Request as PipelineRequest;
use crate::serve::transport::read_body::{Copied, malformed, parse_body, read_body};

/// The one part of the path that a caller chooses. axum's own extractor would refuse it in plain
/// text.
pub(super) struct PathPart(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathPart {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let part = Path::from_request_parts(parts, state).await;
        part.map(|Path(part)| Self(part))
            .map_err(|rejection| malformed(format!("the path: {}", rejection.body_text())))
    }
}

/// The request, and whether its body was one picture.
///
/// # Errors
/// When it cannot be read, is too large, or comes too slowly.
pub(super) async fn read(
    app: &App,
    operation: Operation,
    request: Request,
    received: Instant,
) -> Result<(PipelineRequest, bool), Error> {
    let (head, body) = request.into_parts();
    let kind = BodyKind::of(&head.headers)?;
    let from_image = kind == BodyKind::Image;
    let copied = match kind {
        BodyKind::Image | BodyKind::Tensor => Copied::Nothing,
        BodyKind::Form { .. } | BodyKind::Json => Copied::All,
    };
    let (bytes, permit) = read_body(app, &head.headers, body, received, copied).await?;
    let tenant = head.extensions.get::<Tenant>().copied().unwrap_or_default();
    let (length, uri) = (bytes.len(), head.uri);
    let parse = move || kind.parse(operation, bytes, uri.query());
    let Parsed { ask, tiles, references } = parse_body(app, length, parse).await?;
    Ok((PipelineRequest { ask, tiles, references, received, permit, tenant }, from_image))
}
