//! The style bank: what it holds.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State, rejection::QueryRejection};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::method::color::ChannelStats;
use crate::serve::app::App;
use crate::serve::error::{Error, ErrorKind};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StylesQuery {
    /// NAME or NAME/VERSION; the default model when left out.
    model: Option<String>,
}

/// The style bank of one model.
#[derive(Serialize, ToSchema)]
pub struct Styles {
    model: String,
    version: String,
    domains: Vec<DomainStyles>,
}

#[derive(Serialize, ToSchema)]
struct DomainStyles {
    domain: String,
    styles: Vec<StyleInfo>,
}

#[derive(Serialize, ToSchema)]
struct StyleInfo {
    id: String,
    /// Per channel, of the tile that the style was taken from, pixels in 0..1.
    source_mean: [f32; 3],
    source_std: [f32; 3],
}

/// The style bank, by domain
#[utoipa::path(get, path = "/v1/styles", tag = "models", operation_id = "list_styles", params(StylesQuery),
    responses((status = 200, description = "The styles on offer", body = Styles)))]
pub async fn list(State(app): State<Arc<App>>, query: Result<Query<StylesQuery>, QueryRejection>) -> Result<Json<Styles>, Error> {
    let Query(query) =
        query.map_err(|error| Error::new(ErrorKind::MalformedRequest, format!("the query string: {}", error.body_text())))?;
    let model = app.pipeline()?.models.find(query.model.as_deref())?;
    let bank = &model.bundle.styles;
    let domain = |(index, domain): (usize, &String)| {
        let of_domain = bank.entries.iter().filter(|entry| entry.domain == index);
        let info =
            |id: &str, &ChannelStats { mean, std }: &ChannelStats| StyleInfo { id: id.to_owned(), source_mean: mean, source_std: std };
        DomainStyles { domain: domain.clone(), styles: of_domain.map(|entry| info(&entry.id, &entry.source)).collect() }
    };
    let domains = bank.domains.iter().enumerate().map(domain).collect();
    Ok(Json(Styles { model: model.name().to_owned(), version: model.version().to_owned(), domains }))
}
