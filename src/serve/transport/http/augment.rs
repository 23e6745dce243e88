//! POST /v1/augment.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use restain_request::Operation;
use restain_request::schema::AugmentRequest;

use super::accept::{Expected, Form, accept};
use super::answer::{self, JsonAnswer};
use super::bodies::{
    AnswerPicture, AugmentBody, AugmentForm, AugmentTensors, MixedParts, Picture, VariantTensors,
    WebDatasetTar,
};
use super::read::read;
use crate::serve::app::App;
use crate::serve::error::Error;
use crate::serve::pipeline::{Pipeline, Request as PipelineRequest};
use crate::serve::trace;

/// Tiles in, variants out
///
/// The form of the answer follows `Accept`. Without one, a single picture in gives a single picture
/// out (one variant, or a sheet), and everything else is JSON. Every form says for each variant how
/// it came to be; the same request with the same seed gives the same bytes. The query parameters go
/// with a body that is one picture; other bodies carry them as the request JSON.
///
/// A tile that was sent before may come as its key, the `tile_key` of an earlier answer: it is not
/// sent again, and mostly not encoded again. Keys stand behind the tiles of a request, and so do
/// their answers. When some are not held the answer is 404 `tile_not_held`, which names them; the
/// request's own tiles are held from then on.
///
/// JSON is the slow form, in both directions: every tile and every variant of it goes through a
/// picture's codec and through base64, and is a third larger on the wire. It is for a few pictures,
/// and for trying things out. The fast form is `application/vnd.restain.safetensors` in
/// `Content-Type` and `Accept`: pixels as they lie in memory, and nothing to compress or to parse
/// on either side. Its tensors are described with its bodies below.
#[utoipa::path(
    post,
    path = "/v1/augment",
    tag = "augment",
    operation_id = "augment",
    params(AugmentRequest),
    request_body(content(
        (AugmentBody = "application/json"),
        (AugmentForm = "multipart/form-data"),
        (AugmentTensors = "application/vnd.restain.safetensors"),
        (Picture = "image/*"),
    )),
    responses((
        status = 200,
        description = "The variants, in the order of the tiles",
        content(
            (JsonAnswer = "application/json"),
            (MixedParts = "multipart/mixed"),
            (WebDatasetTar = "application/x-tar"),
            (VariantTensors = "application/vnd.restain.safetensors"),
            (AnswerPicture = "image/png"),
            (AnswerPicture = "image/jpeg"),
            (AnswerPicture = "image/webp"),
        ),
    )),
)]
pub(super) async fn augment(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Error> {
    let received = Instant::now();
    let pipeline = app.pipeline()?;
    let accept = accept(request.headers());
    let (request, from_image) = read(&app, Operation::Augment, request, received).await?;
    let form = Form::negotiate(accept.as_deref(), &expected(&request, pipeline, from_image))?;
    let answer = pipeline.augment(request).await?;
    let written = trace::stage("write", answer::write(&app, answer, form)).await?;
    Ok(written.into_response(received.elapsed()))
}

/// What is known of the answer. A request for more variants than the server makes is judged as if
/// it asked for one, so that its error names `variants`, and not the form of its answer.
fn expected(request: &PipelineRequest, pipeline: &Pipeline, from_image: bool) -> Expected {
    let ask = &request.ask;
    let variants = usize::try_from(ask.variants).ok();
    let variants = variants.filter(|variants| *variants <= pipeline.limits.max_variants);
    Expected {
        tiles: request.tiles.len().max(1),
        variants: variants.unwrap_or(1),
        sheet: ask.output_sheet,
        format: ask.output_format,
        from_image,
    }
}
