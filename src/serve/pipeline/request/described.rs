//! What the description of the API says of the request JSON where a derived schema would say too little. Nothing here is
//! read off a wire.

use std::borrow::Cow;

use utoipa::openapi::schema::{
    AdditionalProperties, Object, ObjectBuilder, OneOfBuilder, SchemaType, Type,
};
use utoipa::openapi::{KnownFormat, Ref, RefOr, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use super::BlendPart;

/// `png`, `jpeg`, `webp` or null.
pub(super) fn format() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some("png when left out."))
        .enum_values(Some([Some("png"), Some("jpeg"), Some("webp"), None]))
        .default(Some(serde_json::Value::Null))
        .build()
}

/// Either `id` or `domain`, each with a weight: two schemas, so that a client cannot be generated that sends both.
impl PartialSchema for BlendPart {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .description(Some("A style of a blend: either one of the bank by its `id`, or one of a `domain` that each variant draws."))
            .item(Ref::from_schema_name("BlendStyle"))
            .item(Ref::from_schema_name("BlendDomain"))
            .into()
    }
}

impl ToSchema for BlendPart {
    fn name() -> Cow<'static, str> {
        "BlendPart".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        let by_id = part("id", "domain", "The style, by the id that `GET /v1/styles` lists.");
        let by_domain = part("domain", "id", "The domain, one of whose styles each variant draws.");
        schemas.extend([("BlendStyle".to_owned(), by_id), ("BlendDomain".to_owned(), by_domain)]);
    }
}

fn part(field: &str, left_out: &str, description: &str) -> RefOr<Schema> {
    let weight = ObjectBuilder::new()
        .schema_type(Type::Number)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Float)))
        .description(Some("Its share is this over the sum of all."))
        .exclusive_minimum(Some(0));
    let named = ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    ObjectBuilder::new()
        .property(field, named)
        .property(left_out, ObjectBuilder::new().schema_type(Type::Null))
        .property("weight", weight)
        .required(field)
        .required("weight")
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        .into()
}
