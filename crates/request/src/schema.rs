//! The table as schemas of OpenAPI: a request's JSON, and the parameters of its query string.
//!
//! They say how a field is best written. What else is read, such as a number in a text, is said in
//! the description.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{
    AdditionalProperties, AllOfBuilder, ArrayBuilder, Object, ObjectBuilder, OneOfBuilder,
    SchemaType, Type,
};
use utoipa::openapi::{ContentBuilder, KnownFormat, Ref, RefOr, Required, Schema, SchemaFormat};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::descriptor::{Field, Kind, Operation, Wire, known};
use crate::table::FIELDS;

type Named = (String, RefOr<Schema>);

/// What is wanted of tiles whose variants are made.
#[derive(Debug)]
pub struct AugmentRequest;

/// What is wanted of tiles whose encodings the caller takes home.
#[derive(Debug)]
pub struct EncodeTilesRequest;

/// What is wanted of tiles of one slide.
#[derive(Debug)]
pub struct SlideRequest;

/// What is wanted of reference tiles that become a domain.
#[derive(Debug)]
pub struct AddRequest;

/// The names of groups, their schemas' and what they are.
const GROUPS: [(&str, &str, &str); 2] = [
    ("style", "StyleRequest", "Where styles come from and how they are put on."),
    ("output", "OutputRequest", "How pictures are written."),
];

/// The schemas of choices, by their fields: programs that generate clients name types after them.
const CHOICES: [(&str, &str); 7] = [
    ("method", "Method"),
    ("detail", "Detail"),
    ("priority", "Priority"),
    ("style.from", "StyleSource"),
    ("style.placement", "Placement"),
    ("style.share", "Share"),
    ("output.format", "ImageFormat"),
];

const LENIENT: &str = "Every field may be left out or null; unknown ones are rejected. A number or \
    a boolean may also be written as text, `2.0` is 2, `1` is true, and a list of names may be one \
    text with commas.";

macro_rules! described {
    ($($type:ident = $operation:ident, $required:expr, $text:literal;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                object(Operation::$operation, None, $required)
                    .description(Some(format!("{} {LENIENT}", $text)))
                    .into()
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn schemas(schemas: &mut Vec<Named>) {
                groups(Operation::$operation, schemas);
                choices(Operation::$operation, schemas);
            }
        }

        impl IntoParams for $type {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                known(FIELDS, Operation::$operation, Wire::Query)
                    .map(|(field, name)| parameter(field, &name))
                    .collect()
            }
        }
    )*};
}

described! {
    AugmentRequest = Augment, &[], "What is wanted of the tiles.";
    EncodeTilesRequest = Encode, &[], "What is wanted of tiles whose encodings the caller takes \
        home.";
    SlideRequest = AddSlide, &[], "What is wanted of tiles of one slide.";
    AddRequest = AddStyles, &["domain"], "What is wanted of reference tiles that become a domain.";
}

/// The parts of a form that adds a domain: its fields, and a part `tile` of `tile` for each
/// reference tile.
pub fn add_form(tile: impl Into<RefOr<Schema>>) -> ObjectBuilder {
    let fields = FIELDS.iter().filter(|field| field.operations.contains(&Operation::AddStyles));
    let with = |form: ObjectBuilder, field: &Field| {
        form.property(field.path, value(field, false).description(Some(field.doc)))
    };
    let tiles = ArrayBuilder::new()
        .items(tile.into())
        .min_items(Some(1))
        .description(Some("One part of this name for each reference tile."));
    fields
        .fold(ObjectBuilder::new(), with)
        .property("tile", tiles)
        .required("domain")
        .required("tile")
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
}

/// The fields of an operation that stand in `group`, or at the top with the groups among them.
fn object(operation: Operation, group: Option<&str>, required: &[&str]) -> ObjectBuilder {
    let mut object =
        ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(false)));
    let mut begun = Vec::new();
    for (field, path) in known(FIELDS, operation, Wire::Json) {
        let (of, name) =
            path.rsplit_once('.').map_or((None, &*path), |(of, name)| (Some(of), name));
        match of {
            _ if of == group => {
                let is_required = required.contains(&name);
                object = object.property(name, property(field, !is_required));
            }
            Some(of) if group.is_none() && !begun.contains(&of.to_owned()) => {
                begun.push(of.to_owned());
                let (_, schema, _) =
                    GROUPS.iter().find(|(name, ..)| *name == of).expect("a group is listed");
                let null = ObjectBuilder::new().schema_type(Type::Null);
                object = object.property(
                    of,
                    OneOfBuilder::new().item(null).item(Ref::from_schema_name(*schema)),
                );
            }
            _ => {}
        }
    }
    required.iter().fold(object, |object, name| object.required(*name))
}

fn groups(operation: Operation, schemas: &mut Vec<Named>) {
    let has = |name: &str| {
        known(FIELDS, operation, Wire::Json)
            .any(|(_, path)| path.split('.').next() == Some(name) && path.contains('.'))
    };
    for (name, schema, text) in GROUPS.into_iter().filter(|(name, ..)| has(name)) {
        let group = object(operation, Some(name), &[]).description(Some(text));
        schemas.push((schema.to_owned(), group.into()));
    }
    if known(FIELDS, operation, Wire::Json)
        .any(|(field, _)| matches!(field.kind, Kind::Blend { .. }))
    {
        schemas.extend(blend_parts());
    }
}

fn choices(operation: Operation, schemas: &mut Vec<Named>) {
    for (field, _) in known(FIELDS, operation, Wire::Json) {
        if let Kind::Choice { names } = field.kind {
            let one_of = ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(names.iter().map(|name| json!(name))))
                .description(Some(field.doc));
            schemas.push((choice_name(field).to_owned(), one_of.into()));
        }
    }
}

fn choice_name(field: &Field) -> &'static str {
    let named = CHOICES.iter().find(|(path, _)| *path == field.path);
    named.expect("every choice has a schema").1
}

/// A field that is one of several words, as a reference to their schema.
fn choice(field: &Field, nullable: bool) -> RefOr<Schema> {
    let (words, default) = (Ref::from_schema_name(choice_name(field)), default_of(field));
    if nullable {
        let null = ObjectBuilder::new().schema_type(Type::Null);
        let either = OneOfBuilder::new().item(null).item(words);
        return either.default(default).description(Some(field.doc)).into();
    }
    AllOfBuilder::new().item(words).default(default).into()
}

fn default_of(field: &Field) -> Option<Value> {
    Some((field.default)()).filter(|default| !default.is_null() && *default != json!(""))
}

/// A field of the request JSON.
fn property(field: &Field, nullable: bool) -> RefOr<Schema> {
    let items = |items: RefOr<Schema>, min: Option<usize>, max: usize| {
        ArrayBuilder::new()
            .schema_type(types(Type::Array, nullable))
            .items(items)
            .min_items(min)
            .max_items(Some(max))
            .description(Some(field.doc))
            .into()
    };
    match field.kind {
        Kind::Texts { max_items } => {
            items(ObjectBuilder::new().schema_type(Type::String).into(), None, max_items)
        }
        Kind::Blend { max_items } => {
            items(Ref::from_schema_name("BlendPart").into(), Some(1), max_items)
        }
        Kind::Choice { .. } => choice(field, nullable),
        _ => value(field, nullable).description(Some(field.doc)).into(),
    }
}

/// A field that is one value.
fn value(field: &Field, nullable: bool) -> ObjectBuilder {
    let object = ObjectBuilder::new().default(default_of(field));
    let of = |base| types(base, nullable);
    match field.kind {
        Kind::Boolean => object.schema_type(of(Type::Boolean)),
        Kind::Integer { min, max, .. } => object
            .schema_type(of(Type::Integer))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(min as f64))
            .maximum(Some(max as f64)),
        Kind::Number { min, max } => object
            .schema_type(of(Type::Number))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Float)))
            .minimum(Some(min))
            .maximum(Some(max)),
        Kind::Text { pattern } => object.schema_type(of(Type::String)).pattern(Some(pattern)),
        Kind::Choice { .. } | Kind::Texts { .. } | Kind::Blend { .. } => object,
    }
}

fn types(base: Type, nullable: bool) -> SchemaType {
    if nullable { SchemaType::from_iter([base, Type::Null]) } else { SchemaType::Type(base) }
}

/// A field of the query string.
fn parameter(field: &Field, name: &str) -> Parameter {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(field.doc));
    match field.kind {
        Kind::Texts { max_items } => {
            let names = ArrayBuilder::new()
                .items(Object::with_type(Type::String))
                .max_items(Some(max_items));
            parameter.schema(Some(names)).style(Some(ParameterStyle::Form)).explode(Some(false))
        }
        Kind::Blend { .. } => parameter.content(
            "application/json",
            ContentBuilder::new().schema(Some(property(field, false))).build(),
        ),
        Kind::Choice { .. } => parameter.schema(Some(choice(field, false))),
        _ => parameter.schema(Some(value(field, false))),
    }
    .build()
}

/// Either `id` or `domain`, each with a weight: two schemas, so that a client cannot be generated
/// that sends both.
fn blend_parts() -> [Named; 3] {
    let part = OneOfBuilder::new()
        .description(Some(
            "A style of a blend: either one of the bank by its `id`, or one of a `domain` that \
            each variant draws.",
        ))
        .item(Ref::from_schema_name("BlendStyle"))
        .item(Ref::from_schema_name("BlendDomain"));
    [
        ("BlendPart".to_owned(), part.into()),
        (
            "BlendStyle".to_owned(),
            blend_part("id", "domain", "The style, by the id that `GET /v1/styles` lists."),
        ),
        (
            "BlendDomain".to_owned(),
            blend_part("domain", "id", "The domain, one of whose styles each variant draws."),
        ),
    ]
}

fn blend_part(field: &str, left_out: &str, description: &str) -> RefOr<Schema> {
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
