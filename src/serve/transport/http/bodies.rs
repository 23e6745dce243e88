//! What bodies look like, for the description of the API. They are read by `body` and `add_body`,
//! part by part.

use restain_request::schema::{self, AugmentRequest, EncodeTilesRequest, SlideRequest};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Base64 of a PNG, JPEG, WebP or TIFF file. A data URL of one is taken too.
#[derive(ToSchema)]
#[schema(value_type = String, format = Byte, content_encoding = "base64",
    content_media_type = "image/*")]
pub(super) struct Base64Picture(
    #[expect(dead_code, reason = "it describes what the body reader reads")] String,
);

/// The key of a tile: BLAKE3 of its size and decoded pixels, 64 hex digits.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[0-9a-fA-F]{64}$")]
pub(super) struct Key(
    #[expect(dead_code, reason = "it describes what the body reader reads")] String,
);

/// A PNG, JPEG, WebP or TIFF file; by its bytes, whatever the media type says.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct Picture(
    #[expect(dead_code, reason = "it describes what the body reader reads")] Vec<u8>,
);

/// Tiles, keys or both; at least one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what the body reader reads")]
pub(super) struct AugmentBody {
    request: Option<AugmentRequest>,
    #[schema(required = false)]
    tiles: Vec<Base64Picture>,
    /// Of tiles that were sent before. They stand behind the tiles of the request, and so do their
    /// answers.
    #[schema(required = false)]
    keys: Vec<Key>,
    /// For `style.from: reference`.
    #[schema(required = false)]
    references: Vec<Base64Picture>,
}

/// Tiles, keys or both; at least one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what the body reader reads")]
pub(super) struct EncodeBody {
    request: Option<EncodeTilesRequest>,
    #[schema(required = false)]
    tiles: Vec<Base64Picture>,
    /// Of tiles that were sent before.
    #[schema(required = false)]
    keys: Vec<Key>,
}

/// Tiles of one slide, keys or both; at least one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes what the body reader reads")]
pub(super) struct SlideBody {
    request: Option<SlideRequest>,
    #[schema(required = false)]
    tiles: Vec<Base64Picture>,
    /// Of tiles that were sent before.
    #[schema(required = false)]
    keys: Vec<Key>,
}

/// Parts of a form: tiles, keys or both; at least one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes the form, which is read part by part")]
pub(super) struct AugmentForm {
    /// At most one part of this name, of JSON.
    #[schema(required = false)]
    request: AugmentRequest,
    /// One part of this name for each tile.
    #[schema(required = false)]
    tile: Vec<Picture>,
    /// One part of this name for the key of each tile that was sent before.
    #[schema(required = false)]
    key: Vec<Key>,
    /// One part of this name for each reference tile.
    #[schema(required = false)]
    reference: Vec<Picture>,
}

/// Parts of a form: tiles, keys or both; at least one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes the form, which is read part by part")]
pub(super) struct EncodeForm {
    /// At most one part of this name, of JSON.
    #[schema(required = false)]
    request: EncodeTilesRequest,
    /// One part of this name for each tile.
    #[schema(required = false)]
    tile: Vec<Picture>,
    /// One part of this name for the key of each tile that was sent before.
    #[schema(required = false)]
    key: Vec<Key>,
}

/// Parts of a form: tiles of one slide, keys or both; at least one.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it describes the form, which is read part by part")]
pub(super) struct SlideForm {
    /// At most one part of this name, of JSON.
    #[schema(required = false)]
    request: SlideRequest,
    /// One part of this name for each tile.
    #[schema(required = false)]
    tile: Vec<Picture>,
    /// One part of this name for the key of each tile that was sent before.
    #[schema(required = false)]
    key: Vec<Key>,
}

/// Parts of a form that add a domain.
pub(super) struct AddForm;

impl PartialSchema for AddForm {
    fn schema() -> RefOr<Schema> {
        schema::add_form(Ref::from_schema_name(Picture::name()))
            .description(Some("Parts of a form that add a domain."))
            .into()
    }
}

impl ToSchema for AddForm {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Picture::name().into_owned(), Picture::schema()));
    }
}

/// A safetensors file. Tensors `tiles` U8 [n, H, W, 3], `keys` U8 [m, 32] (the bytes of keys, not
/// their hex digits) or both and, for `style.from: reference`, `references` U8 [r, H, W, 3]. Tiles
/// of several sizes are packed: `tiles` U8 [bytes], one tile after the other, and `shapes` I64 [n,
/// 2], their heights and widths; references likewise with `reference_shapes`. In the metadata, if
/// wanted, `request`: the JSON of an `AugmentRequest`.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct AugmentTensors(
    #[expect(dead_code, reason = "it describes what the body reader reads")] Vec<u8>,
);

/// A safetensors file. Tensors `tiles` U8 [n, H, W, 3], `keys` U8 [m, 32] (the bytes of keys, not
/// their hex digits) or both. Tiles of several sizes are packed: `tiles` U8 [bytes] and `shapes`
/// I64 [n, 2], their heights and widths. In the metadata, if wanted, `request`: the JSON of an
/// `EncodeTilesRequest`.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct EncodeTensors(
    #[expect(dead_code, reason = "it describes what the body reader reads")] Vec<u8>,
);

/// A safetensors file with tiles of one slide. Tensors `tiles` U8 [n, H, W, 3], `keys` U8 [m, 32]
/// (the bytes of keys, not their hex digits) or both. Tiles of several sizes are packed: `tiles` U8
/// [bytes] and `shapes` I64 [n, 2], their heights and widths. In the metadata, if wanted,
/// `request`: the JSON of a `SlideRequest`.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct SlideTensors(
    #[expect(dead_code, reason = "it describes what the body reader reads")] Vec<u8>,
);

/// A safetensors file. `tiles` U8 [n, H, W, 3], the references, or packed `tiles` U8 [bytes] and
/// `shapes` I64 [n, 2]; in the metadata `request`: the JSON of an `AddRequest`.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct AddTensors(
    #[expect(dead_code, reason = "it describes what the body reader reads")] Vec<u8>,
);

/// A safetensors file. Tensor `variants` U8 [n, K, H, W, 3], or where tiles are of several sizes
/// `variants` U8 [bytes], one tile's variants after the other's, and `shapes` I64 [n, 2], their
/// heights and widths; in the metadata `provenance`: a JSON list of `Provenance`, one for each
/// variant, tile by tile.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct VariantTensors(
    #[expect(dead_code, reason = "it describes what is written from where it lies")] Vec<u8>,
);

/// A safetensors file. Tensors `anatomy` F16 [W, N, h] and `characteristics` F16 [W, N, S], of the
/// W windows of all tiles, one after the other; a tile of up to `window` times the model's size is
/// one. S is the length of a style: h, and 3·P more if the model has a style bias. Tensor `stain`
/// F32 [n, S]: the mean characteristics of each tile's patches with a stain, from which the change
/// of a tile in several windows starts; NaN where no patch has one. In the metadata `keys`: a JSON
/// list of the tiles' keys, `windows`: a list of `WindowGrid`, `takes_style`: a list that says
/// whether each tile takes a style, `fidelity`: a list of the PSNR of their reconstructions in dB,
/// `detail`: that of the request, and `model`: the JSON of an `EncoderAbout`.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct EncodingTensors(
    #[expect(dead_code, reason = "it describes what is written from where it lies")] Vec<u8>,
);

/// A safetensors file. Tensor `characteristics` F32 [K, S]; in the metadata `styles`: a JSON list
/// of `PlacedStyle` in the same order, and `model`: the JSON of an `EncoderAbout`.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct StyleTensors(
    #[expect(dead_code, reason = "it describes what is written from where it lies")] Vec<u8>,
);

/// First a part of JSON, a `JsonAnswer` whose variants have no `image`; then a part for each
/// picture, with its name and, under `Restain-Provenance`, the JSON of its `Provenance`.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct MixedParts(
    #[expect(dead_code, reason = "it describes what is written part by part")] Vec<u8>,
);

/// A tar with the names of WebDataset: for each variant a picture `TILE_VARIANT.png` (or `.jpg`,
/// `.webp`) and `TILE_VARIANT.json`, its `Provenance`.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct WebDatasetTar(
    #[expect(dead_code, reason = "it describes what is written part by part")] Vec<u8>,
);

/// A picture: the one variant, or with `sheet` all of them. `Restain-Provenance` says how it came
/// to be.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct AnswerPicture(
    #[expect(dead_code, reason = "it describes what is written from where it lies")] Vec<u8>,
);
