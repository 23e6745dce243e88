//! POST /v1/encode.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use restain_request::Operation;
use restain_request::schema::EncodeTilesRequest;

use super::answer;
use super::bodies::{EncodeBody, EncodeForm, EncodeTensors, EncodingTensors, Picture};
use super::read::read;
use crate::serve::app::App;
use crate::serve::error::Error;

/// Tiles in, encodings out
///
/// For a client that makes the variants itself: any number of them for one tile's traffic. The
/// answer is `application/vnd.restain.safetensors`: `anatomy` F16 [W, N, h] and `characteristics`
/// F16 [W, N, S], of the W windows of all tiles. With `detail=model` every tile is one window;
/// without it those of more than four times the model's size (`--window`) have several. `stain` F32
/// [n, S] is where their change starts. In the metadata stand the tiles' keys, their windows,
/// whether they take a style, the PSNR of their reconstructions under `fidelity`, and under `model`
/// what the product needs to know: geometry, pixel order, normalisation. `docs/encode.md` has the
/// product in ten lines of numpy. Bodies are those of `/v1/augment`, without references.
#[utoipa::path(
    post,
    path = "/v1/encode",
    tag = "augment",
    operation_id = "encode",
    params(EncodeTilesRequest),
    request_body(content(
        (EncodeBody = "application/json"),
        (EncodeForm = "multipart/form-data"),
        (EncodeTensors = "application/vnd.restain.safetensors"),
        (Picture = "image/*"),
    )),
    responses((
        status = 200,
        description = "The encodings, in the order of the tiles",
        content((EncodingTensors = "application/vnd.restain.safetensors")),
    )),
)]
pub(super) async fn encode(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Error> {
    let received = Instant::now();
    let pipeline = app.pipeline()?;
    let (request, _) = read(&app, Operation::Encode, request, received).await?;
    let answer = pipeline.encode(request).await?;
    Ok(answer::write_encodings(answer).into_response(received.elapsed()))
}
