//! The style bank: what it holds, adding a domain to it, and removing one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::accept::{JSON, SAFETENSORS, accept, choose};
use super::add_body::AddBody;
use super::bodies::{AddForm, AddTensors, StyleTensors};
use super::listing;
use super::read::PathPart;
use super::tensors::{self, TensorHead};
use crate::serve::app::App;
use crate::serve::cache::Tenant;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::models::Model;
use crate::serve::pipeline::AddStyles;
use crate::serve::pipeline::answer::EncoderAbout;
use crate::serve::styles::{DomainOrigin, Offer};
use crate::serve::transport::read_body::{Copied, parse_body, read_body};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StylesQuery {
    /// NAME or NAME/VERSION; the default model when left out.
    #[param(pattern = r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$")]
    model: Option<String>,
}

/// The style bank of one model.
#[derive(Serialize, ToSchema)]
pub(super) struct Styles {
    #[serde(flatten)]
    of: BankInfo,
    /// The bundle's own first.
    domains: Vec<DomainStyles>,
}

/// A domain that was added.
#[derive(Serialize, ToSchema)]
pub(super) struct AddedStyles {
    #[serde(flatten)]
    of: BankInfo,
    #[serde(flatten)]
    added: DomainStyles,
}

#[derive(Serialize, ToSchema)]
pub(super) struct BankInfo {
    model: String,
    version: String,
    /// Whether what is added outlives the server's process.
    persistent: bool,
}

#[derive(Serialize, ToSchema)]
struct DomainStyles {
    domain: String,
    #[schema(inline)]
    origin: DomainOrigin,
    styles: Vec<StyleInfo>,
}

#[derive(Serialize, ToSchema)]
struct StyleInfo {
    id: String,
    /// Per channel, of the tile that the style was taken from, pixels in 0..1.
    #[schema(min_items = 3, max_items = 3)]
    source_mean: [f32; 3],
    #[schema(min_items = 3, max_items = 3)]
    source_std: [f32; 3],
}

/// A line of the `styles` of the tensor form.
#[derive(Serialize, ToSchema)]
pub(super) struct PlacedStyle {
    domain: String,
    #[schema(inline)]
    origin: DomainOrigin,
    #[serde(flatten)]
    info: StyleInfo,
}

/// The style bank, by domain
///
/// As JSON, or as `application/vnd.restain.safetensors` for a client that makes the product itself:
/// `characteristics` F32 [S, h], the very numbers that the server multiplies with; in the metadata
/// `styles`, a JSON list in the same order of `id`, `domain`, `origin`, `source_mean` and
/// `source_std`, and `model` as `/v1/encode` gives it. Styles of domains that `--forbid-domain`
/// excludes are in neither.
#[utoipa::path(get, path = "/v1/styles", tag = "styles", operation_id = "list_styles",
    params(StylesQuery),
    responses((status = 200, description = "The styles on offer",
        content((Styles = "application/json"),
            (StyleTensors = "application/vnd.restain.safetensors")))))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<StylesQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let model = app.pipeline()?.models.find(model_of(query)?.as_deref())?;
    let accept = accept(&headers);
    let offer = model.styles.offer();
    if choose(accept.as_deref(), &[JSON, SAFETENSORS])? == SAFETENSORS {
        return listing::lend(
            &app,
            SAFETENSORS,
            as_tensor(&model, &offer, app.pipeline()?.limits.window),
        );
    }
    let domains = (0..offer.domains().count()).map(|place| describe(&offer, place)).collect();
    listing::json(&app, &Styles { of: bank(&model), domains })
}

/// Add a domain from reference tiles
///
/// The tiles are encoded by the model, and one style is taken from each of the most typical ones
/// that are at least half tissue: the patch whose style gives its own tile back best. Send a
/// quarter more tiles than styles are wanted, so that those of unusual colour can be left out. Once
/// this is answered the domain is kept: with `--state` on the disk, for this bundle and no
/// other.
///
/// It is used by requests that name it, in `style.domains`, `style.ids` or `style.blend`, and by no
/// others: what they give never changes. A request that names it can be repeated as long as it is
/// there.
///
/// `application/vnd.restain.safetensors`: tensor `tiles` U8 [n, H, W, 3], and under `request` in
/// the metadata an object of `domain`, `model` and `styles`.
#[utoipa::path(post, path = "/v1/styles", tag = "styles", operation_id = "add_styles",
    request_body(content((AddForm = "multipart/form-data"),
        (AddTensors = "application/vnd.restain.safetensors"))),
    responses((status = 201, description = "It is there, and kept", body = AddedStyles)))]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Json<AddedStyles>), Error> {
    let received = Instant::now();
    let pipeline = app.pipeline()?;
    let (head, body) = request.into_parts();
    let kind = AddBody::of(&head.headers)?;
    let copied = match kind {
        AddBody::Form { .. } => Copied::All,
        AddBody::Tensor => Copied::Nothing,
    };
    let (bytes, permit) = read_body(&app, &head.headers, body, received, copied).await?;
    let (ask, tiles) = parse_body(&app, bytes.len(), move || kind.parse(bytes)).await?;
    let domain = ask.domain.clone();
    let tenant = head.extensions.get::<Tenant>().copied().unwrap_or_default();
    let request = AddStyles { ask, tiles, received, permit, tenant };
    let model = pipeline.add_styles(request).await?;
    let offer = model.styles.offer();
    let place = offer.find_domain("domain", &domain)?;
    Ok((
        StatusCode::CREATED,
        Json(AddedStyles { of: bank(&model), added: describe(&offer, place) }),
    ))
}

/// Remove a domain that was added
///
/// Requests under way finish with it. A bundle's own domains cannot be removed.
#[utoipa::path(delete, path = "/v1/styles/{domain}", tag = "styles", operation_id = "remove_styles",
    params(("domain" = String, Path, description = "The domain's \
        name", min_length = 1, example = "ours"), StylesQuery),
    responses((status = 204, description = "It is gone, from the disk as well")))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    PathPart(domain): PathPart,
    query: Result<Query<StylesQuery>, QueryRejection>,
) -> Result<StatusCode, Error> {
    app.pipeline()?.remove_styles(domain, model_of(query)?.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The model that a query string names.
pub(super) fn model_of(
    query: Result<Query<StylesQuery>, QueryRejection>,
) -> Result<Option<String>, Error> {
    let malformed = |error: QueryRejection| {
        Error::new(ErrorKind::MalformedRequest, format!("the query string: {}", error.body_text()))
    };
    query.map(|query| query.0.model).map_err(malformed)
}

pub(super) fn bank(model: &Model) -> BankInfo {
    BankInfo {
        model: model.name().to_owned(),
        version: model.version().to_owned(),
        persistent: model.styles.is_persistent(),
    }
}

fn describe(offer: &Offer, place: usize) -> DomainStyles {
    let styles = (0..offer.styles())
        .filter(|&style| offer.domain_of(style) == place)
        .map(|style| info(offer, style))
        .collect();
    DomainStyles {
        domain: offer.domain_name(place).to_owned(),
        origin: offer.origin(place),
        styles,
    }
}

fn info(offer: &Offer, style: usize) -> StyleInfo {
    let entry = offer.style(style);
    StyleInfo { id: entry.id.clone(), source_mean: entry.source.mean, source_std: entry.source.std }
}

/// `characteristics` F32 [S, h], with what they are of in the metadata.
fn as_tensor(model: &Model, offer: &Offer, window: f64) -> Vec<u8> {
    let about = EncoderAbout::of(model, window);
    let placed = |style: usize| {
        let place = offer.domain_of(style);
        PlacedStyle {
            domain: offer.domain_name(place).to_owned(),
            origin: offer.origin(place),
            info: info(offer, style),
        }
    };
    let styles: Vec<PlacedStyle> = (0..offer.styles()).map(placed).collect();
    let text = |json: serde_json::Result<String>| json.expect("a bank is strings and numbers");
    let metadata = BTreeMap::from([
        ("styles", text(serde_json::to_string(&styles))),
        ("model", text(serde_json::to_string(&about))),
    ]);
    let shape = vec![styles.len(), about.geometry.style_len()];
    let mut bytes = tensors::head(
        &[TensorHead { name: "characteristics", dtype: Dtype::F32, shape }],
        metadata,
    );
    // Little-endian, as on every machine this is built for.
    (0..offer.styles()).for_each(|style| {
        bytes.extend_from_slice(bytemuck::cast_slice(&offer.style(style).style.0))
    });
    bytes
}
