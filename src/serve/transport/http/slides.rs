//! The contexts of slides: adding one, listing them, and removing one.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use restain_request::Operation;
use restain_request::schema::SlideRequest;
use serde::Serialize;
use utoipa::ToSchema;

use super::bodies::{Picture, SlideBody, SlideForm, SlideTensors};
use super::listing;
use super::read::{PathPart, read};
use super::styles::{BankInfo, StylesQuery, bank, model_of};
use crate::serve::app::App;
use crate::serve::error::Error;

/// A slide that is kept.
#[derive(Serialize, ToSchema)]
pub(super) struct AddedSlide {
    #[serde(flatten)]
    of: BankInfo,
    /// Its id, for the field `slide` of `/v1/augment`: a hash of the tiles.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    slide: String,
    /// The number of different tiles that it was made from.
    tiles: usize,
}

/// The slides of one model.
#[derive(Serialize, ToSchema)]
pub(super) struct SlideList {
    #[serde(flatten)]
    of: BankInfo,
    /// Their ids, in alphabetical order.
    slides: Vec<String>,
}

/// Add the context of a slide from some of its tiles
///
/// One tile cannot say what stain its slide has, because its colours depend on what is in it. Some
/// 16 tiles of different parts of a slide can. Their context is the mean of the characteristics of
/// all patches with a stain, and the colours of all pixels. A request that names it in `slide`
/// changes every tile by the difference between two stains, and not by that between a stain and the
/// tile's own colours: neighbouring tiles stay alike, and what is pale stays paler than what is
/// dark.
///
/// The id is a hash of the tiles: the same tiles give the same slide, and a slide never changes.
/// Once this is answered it is kept: with `--state` on the disk, for this bundle and no other.
/// Bodies are those of `/v1/encode`.
#[utoipa::path(post, path = "/v1/slides", tag = "styles", operation_id = "add_slide",
    params(SlideRequest),
    request_body(content(
        (SlideBody = "application/json"),
        (SlideForm = "multipart/form-data"),
        (SlideTensors = "application/vnd.restain.safetensors"),
        (Picture = "image/*"),
    )),
    responses((status = 201, description = "It is there, and kept", body = AddedSlide)))]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Json<AddedSlide>), Error> {
    let pipeline = app.pipeline()?;
    let (request, _) = read(&app, Operation::AddSlide, request, Instant::now()).await?;
    let added = pipeline.add_slide(request).await?;
    let of = bank(&added.model);
    Ok((StatusCode::CREATED, Json(AddedSlide { of, slide: added.id, tiles: added.tiles })))
}

/// The slides whose contexts are kept
#[utoipa::path(get, path = "/v1/slides", tag = "styles", operation_id = "list_slides",
    params(StylesQuery),
    responses((status = 200, description = "The slides", body = SlideList)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<StylesQuery>, QueryRejection>,
) -> Result<Response, Error> {
    let model = app.pipeline()?.models.find(model_of(query)?.as_deref())?;
    let slides = model.styles.offer().slides().to_vec();
    listing::json(&app, &SlideList { of: bank(&model), slides })
}

/// Remove the context of a slide
///
/// Requests under way finish with it.
#[utoipa::path(delete, path = "/v1/slides/{slide}", tag = "styles", operation_id = "remove_slide",
    params(("slide" = String, Path, description = "The slide's id", min_length = 1,
        example = "0123456789abcdef0123456789abcdef"), StylesQuery),
    responses((status = 204, description = "It is gone, from the disk as well")))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    PathPart(slide): PathPart,
    query: Result<Query<StylesQuery>, QueryRejection>,
) -> Result<StatusCode, Error> {
    app.pipeline()?.remove_slide(slide, model_of(query)?.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
