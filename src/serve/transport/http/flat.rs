//! The request JSON laid flat into a query string, which goes with a body that is one picture.

use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use crate::serve::pipeline::request::{
    AugmentRequest, EncodeTilesRequest, Method, OutputRequest, Placement, Priority, Share,
    StyleRequest, StyleSource,
};
use restain_bundle::codec::ImageFormat;

/// Of POST /v1/augment. Lists are separated by commas.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct FlatRequest {
    /// NAME or NAME/VERSION; the server's default when left out.
    #[param(pattern = r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$")]
    model: Option<String>,
    /// Variants of the tile.
    #[param(minimum = 1, maximum = 9_007_199_254_740_991_u64, default = 1)]
    variants: Option<u64>,
    /// The same seed gives the same bytes; drawn when left out.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    seed: Option<u64>,
    #[param(inline)]
    method: Method,
    /// `style.from`
    #[param(inline)]
    from: StyleSource,
    /// `style.domains`
    #[param(style = Form, explode = false, value_type = Option<Vec<String>>)]
    domains: Option<String>,
    /// `style.exclude_domains`
    #[param(style = Form, explode = false, value_type = Option<Vec<String>>)]
    exclude_domains: Option<String>,
    /// `style.ids`
    #[param(style = Form, explode = false, value_type = Option<Vec<String>>)]
    ids: Option<String>,
    /// `style.placement`
    #[param(inline)]
    placement: Placement,
    /// `style.share`
    #[param(inline)]
    share: Share,
    /// 0 keeps the tile's own look, 1 takes the style whole.
    #[param(minimum = 0, maximum = 1, default = 1.0)]
    strength: Option<f32>,
    /// Resize a tile of another size to the model's and its variants back, instead of refusing it.
    #[param(default = false)]
    resize: bool,
    /// `output.format`
    #[param(schema_with = picture_format)]
    format: Option<ImageFormat>,
    /// `output.quality`, of JPEG and WebP
    #[param(minimum = 1, maximum = 100, default = 90)]
    quality: Option<u32>,
    /// One picture of all variants. The only parameter that also goes with the other kinds of body.
    #[param(default = false)]
    sheet: bool,
    #[param(inline)]
    priority: Priority,
    /// Less than the server's own limit, when given.
    #[param(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    timeout_ms: Option<u64>,
}

/// Of POST /v1/encode.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct FlatEncodeRequest {
    /// NAME or NAME/VERSION; the server's default when left out.
    #[param(pattern = r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$")]
    model: Option<String>,
    /// Resize a tile of another size to the model's, instead of refusing it.
    #[param(default = false)]
    resize: bool,
    #[param(inline)]
    priority: Priority,
    /// Less than the server's own limit, when given.
    #[param(minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    timeout_ms: Option<u64>,
}

/// How a picture is written.
fn picture_format() -> Object {
    let names = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp]
        .map(|format| serde_json::json!(format));
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(names))
        .default(Some("png".into()))
        .build()
}

impl From<FlatEncodeRequest> for EncodeTilesRequest {
    fn from(flat: FlatEncodeRequest) -> Self {
        Self {
            model: flat.model,
            resize: flat.resize,
            priority: flat.priority,
            timeout_ms: flat.timeout_ms,
        }
    }
}

impl From<FlatRequest> for AugmentRequest {
    fn from(flat: FlatRequest) -> Self {
        let items = |text: &str| {
            text.split(',')
                .map(|item| item.trim().to_owned())
                .filter(|item| !item.is_empty())
                .collect()
        };
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
