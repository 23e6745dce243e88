//! The request JSON laid flat into a query string, which goes with a body that is one picture.

use serde::Deserialize;
use utoipa::IntoParams;

use crate::codec::ImageFormat;
use crate::serve::pipeline::request::{
    AugmentRequest, EncodeTilesRequest, Method, OutputRequest, Placement, Priority, Share, StyleRequest, StyleSource,
};

/// Of POST /v1/augment. Lists are separated by commas.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct FlatRequest {
    model: Option<String>,
    variants: Option<u64>,
    seed: Option<u64>,
    #[param(inline)]
    method: Method,
    #[param(inline)]
    from: StyleSource,
    domains: Option<String>,
    exclude_domains: Option<String>,
    ids: Option<String>,
    #[param(inline)]
    placement: Placement,
    #[param(inline)]
    share: Share,
    strength: Option<f32>,
    resize: bool,
    /// png, jpeg or webp
    #[param(value_type = Option<String>)]
    format: Option<ImageFormat>,
    quality: Option<u32>,
    /// One picture of all variants. The only parameter that also goes with the other kinds of body.
    sheet: bool,
    #[param(inline)]
    priority: Priority,
    timeout_ms: Option<u64>,
}

/// Of POST /v1/encode.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct FlatEncodeRequest {
    model: Option<String>,
    resize: bool,
    #[param(inline)]
    priority: Priority,
    timeout_ms: Option<u64>,
}

impl From<FlatEncodeRequest> for EncodeTilesRequest {
    fn from(flat: FlatEncodeRequest) -> Self {
        Self { model: flat.model, resize: flat.resize, priority: flat.priority, timeout_ms: flat.timeout_ms }
    }
}

impl From<FlatRequest> for AugmentRequest {
    fn from(flat: FlatRequest) -> Self {
        let items = |text: &str| text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect();
        let list = |text: Option<String>| text.as_deref().map(items);
        Self {
            model: flat.model,
            variants: flat.variants,
            seed: flat.seed,
            method: flat.method,
            style: StyleRequest {
                from: flat.from,
                domains: list(flat.domains),
                exclude_domains: list(flat.exclude_domains),
                ids: list(flat.ids),
                blend: None,
                placement: flat.placement,
                share: flat.share,
            },
            strength: flat.strength,
            resize: flat.resize,
            output: OutputRequest { format: flat.format, quality: flat.quality, sheet: flat.sheet },
            priority: flat.priority,
            timeout_ms: flat.timeout_ms,
        }
    }
}
