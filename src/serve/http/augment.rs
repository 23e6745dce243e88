//! POST /v1/augment.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::Response;

use super::accept::{Expected, Form};
use super::answer::{self, JsonAnswer};
use super::body::{self, BodyKind, FlatRequest, FormBody, JsonBody, Parsed};
use crate::serve::app::App;
use crate::serve::error::Error;
use crate::serve::pipeline::{Pipeline, Request as PipelineRequest, deadline_exceeded};

/// Tiles in, variants out
///
/// The form of the answer follows `Accept`. Without one, a single picture in gives a single picture out (one variant,
/// or a sheet), and everything else is JSON. Every form says for each variant how it came to be; the same request with
/// the same seed gives the same bytes. The query parameters go with a body that is one picture; other bodies carry
/// them as the request JSON.
///
/// `application/vnd.restain.safetensors`: tensor `tiles` U8 [n, H, W, 3] and, if wanted, `references`; the request JSON
/// under `request` in the metadata. Its answer: `variants` U8 [n, K, H, W, 3], with the records of all variants, tile by
/// tile, under `provenance` in the metadata.
#[utoipa::path(
    post,
    path = "/v1/augment",
    tag = "augment",
    operation_id = "augment",
    params(FlatRequest),
    request_body(content(
        (JsonBody = "application/json"),
        (FormBody = "multipart/form-data"),
        (Vec<u8> = "application/vnd.restain.safetensors"),
        (Vec<u8> = "image/*"),
    )),
    responses((
        status = 200,
        description = "The variants, in the order of the tiles",
        headers(
            ("Server-Timing" = String, description = "queue, encode, synthesise and total, in milliseconds"),
            ("Restain-Provenance" = String, description = "JSON: how the picture came to be; with one picture only"),
        ),
        content(
            (JsonAnswer = "application/json"),
            (Vec<u8> = "multipart/mixed"),
            (Vec<u8> = "application/x-tar"),
            (Vec<u8> = "application/vnd.restain.safetensors"),
            (Vec<u8> = "image/png"),
            (Vec<u8> = "image/jpeg"),
            (Vec<u8> = "image/webp"),
        ),
    )),
)]
pub async fn augment(State(app): State<Arc<App>>, request: Request) -> Result<Response, Error> {
    let received = Instant::now();
    let pipeline = app.pipeline()?;
    let accept = request.headers().get(header::ACCEPT).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let (request, from_image) = read(&app, request, received).await?;
    let form = Form::negotiate(accept.as_deref(), &expected(&request, pipeline, from_image))?;
    let answer = pipeline.augment(request).await?;
    let written = app.cpu.run(move || answer::write(answer, form)).await??;
    Ok(written.into_response(received.elapsed()))
}

/// The request off the wire, its bytes admitted before they are read.
async fn read(app: &App, request: Request, received: Instant) -> Result<(PipelineRequest, bool), Error> {
    let (head, body) = request.into_parts();
    let kind = BodyKind::of(&head.headers)?;
    let from_image = kind == BodyKind::Image;
    let limit = usize::try_from(app.config.max_body.0).unwrap_or(usize::MAX);
    let announced = body::announced(&head.headers, limit)?;
    let permit = app.admission.admit(0, announced.unwrap_or(limit) as u64)?;
    let timeout = app.config.request_timeout.0;
    let bytes = tokio::time::timeout_at((received + timeout).into(), body::read(body, limit));
    let bytes = bytes.await.map_err(|_| deadline_exceeded(timeout))??;
    let Parsed { ask, tiles, references } = kind.parse(bytes, head.uri.query()).await?;
    Ok((PipelineRequest { ask, tiles, references, received, permit }, from_image))
}

/// What is known of the answer. A request that cannot be planned anyway (no variants, far too many) is judged as if it
/// asked for one, so that it is told what is wrong with it, and not with the form of its answer.
fn expected(request: &PipelineRequest, pipeline: &Pipeline, from_image: bool) -> Expected {
    let ask = &request.ask;
    let variants =
        ask.variants.and_then(|variants| usize::try_from(variants).ok()).filter(|n| (1..=pipeline.limits.max_variants).contains(n));
    let (sheet, format) = (ask.output.sheet, ask.output.format);
    Expected { tiles: request.tiles.len().max(1), variants: variants.unwrap_or(1), sheet, format, from_image }
}
