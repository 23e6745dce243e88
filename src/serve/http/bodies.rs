//! What bodies look like, for the description of the API. They are read by `body`, part by part.

use utoipa::ToSchema;

use crate::serve::pipeline::request::{AugmentRequest, EncodeTilesRequest};

/// `application/json`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what the body reader reads")]
pub struct JsonBody {
    request: Option<AugmentRequest>,
    /// Base64 of PNG, JPEG, WebP or TIFF files.
    tiles: Option<Vec<String>>,
    /// Keys of tiles that were sent before, 64 hex digits each.
    keys: Option<Vec<String>>,
    /// Base64 as in `tiles`, for `style.from: reference`.
    references: Option<Vec<String>>,
}

/// `application/json`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what the body reader reads")]
pub struct EncodeJsonBody {
    request: Option<EncodeTilesRequest>,
    /// Base64 of PNG, JPEG, WebP or TIFF files.
    tiles: Option<Vec<String>>,
    /// Keys of tiles that were sent before, 64 hex digits each.
    keys: Option<Vec<String>>,
}

/// `multipart/form-data`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the form, which is read part by part")]
pub struct FormBody {
    request: Option<AugmentRequest>,
    /// One part of this name for each tile.
    #[schema(value_type = Option<Vec<String>>, format = Binary)]
    tile: Option<Vec<Vec<u8>>>,
    /// One part of this name for the key of each tile that was sent before.
    key: Option<Vec<String>>,
    /// One part of this name for each reference tile.
    #[schema(value_type = Option<Vec<String>>, format = Binary)]
    reference: Option<Vec<Vec<u8>>>,
}

/// `multipart/form-data`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes the form, which is read part by part")]
pub struct EncodeFormBody {
    request: Option<EncodeTilesRequest>,
    /// One part of this name for each tile.
    #[schema(value_type = Option<Vec<String>>, format = Binary)]
    tile: Option<Vec<Vec<u8>>>,
    /// One part of this name for the key of each tile that was sent before.
    key: Option<Vec<String>>,
}
