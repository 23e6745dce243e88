//! The headers of requests and answers.

use utoipa::Modify;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Header, OpenApi, Ref, RefOr, Required};

use super::operations;

const REQUEST_ID: &str = "x-request-id";
const TIMINGS: &str = "queue;dur=0.021, encode;dur=31.402, synthesise;dur=0.388, total;dur=32.944";
const PROVENANCE: &str = r#"{"model":"demo","version":"1","bundle":"5f0c…","seed":7,"method":"vit","tile_key":"9b1d…","index":0,"style":"centre_2/3","domain":"centre_2"}"#;

/// Adds them: once to the components, and to each operation that has them.
pub(super) struct Heads;

impl Modify for Heads {
    fn modify(&self, openapi: &mut OpenApi) {
        let components = openapi.components.as_mut().expect("there are schemas");
        components
            .headers
            .extend(headers().map(|(name, header)| (name.to_owned(), RefOr::T(header))));
        components.parameters.insert(REQUEST_ID.to_owned(), RefOr::T(request_id()));
        for response in components.responses.values_mut() {
            let RefOr::T(response) = response else { continue };
            add_references(&mut response.headers, &[REQUEST_ID, "Allow"]);
        }
        for (_, path, operation) in operations(openapi) {
            operation.parameters.iter_mut().flatten().for_each(describe_default);
            operation
                .parameters
                .get_or_insert_default()
                .push(RefOr::Ref(Ref::new(format!("#/components/parameters/{REQUEST_ID}"))));
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else { continue };
                let further: &[&str] = match (path, status.as_str()) {
                    ("/v1/augment", "200") => &["Server-Timing", "Restain-Provenance"],
                    ("/v1/encode", "200") => &["Server-Timing"],
                    (_, "415") => &["Accept-Encoding"],
                    (_, "401") => &["WWW-Authenticate"],
                    (_, "429") => &["Retry-After", "RateLimit", "RateLimit-Policy"],
                    _ => &[],
                };
                add_references(&mut response.headers, &[&[REQUEST_ID], further].concat());
            }
        }
    }
}

/// What a parameter means when it is left out, in words: generated clients send what stands as a
/// `default`, and with most bodies no parameter may go. Of a fixed set of values it is the first,
/// in all of them.
fn describe_default(parameter: &mut RefOr<Parameter>) {
    let RefOr::T(Parameter { schema: Some(RefOr::T(Schema::Object(schema))), description, .. }) =
        parameter
    else {
        return;
    };
    let first = schema.enum_values.as_ref().and_then(|values| values.first()).cloned();
    let Some(default) = schema.default.take().or(first) else { return };
    let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
    let said = description
        .take()
        .or(schema.description.take())
        .map(|said| format!("{}; ", said.trim_end_matches('.')))
        .unwrap_or_default();
    *description = Some(format!("{said}`{default}` when left out"));
}

fn add_references(headers: &mut std::collections::BTreeMap<String, RefOr<Header>>, names: &[&str]) {
    let reference = |name: &&str| {
        ((*name).to_owned(), RefOr::Ref(Ref::new(format!("#/components/headers/{name}"))))
    };
    headers.extend(names.iter().map(reference));
}

fn request_id() -> Parameter {
    ParameterBuilder::new()
        .name(REQUEST_ID)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Names the request in the server's log; the answer gives it back. Made up when left \
            out.",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

fn headers() -> [(&'static str, Header); 9] {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let header = |schema: ObjectBuilder, description: &str| {
        HeaderBuilder::new().schema(Some(schema)).description(Some(description))
    };
    let seconds = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)));
    let timing = "queue, encode, synthesise and total, in milliseconds; what was not done is 0";
    let provenance = "JSON in ASCII, with one picture only: its `Provenance`; of a sheet, what all \
        of its variants have in common and then `tiles`, each with its `tile_key` and `variants`";
    [
        (REQUEST_ID, header(text(), "As the request gave it, or a UUID").build()),
        ("Server-Timing", header(text(), timing).example(Some(TIMINGS.into())).build()),
        ("Restain-Provenance", header(text(), provenance).example(Some(PROVENANCE.into())).build()),
        (
            "Retry-After",
            header(
                seconds.minimum(Some(1)),
                "Seconds until there will be room, from the rate at which there has been",
            )
            .build(),
        ),
        (
            "WWW-Authenticate",
            header(text(), "How to ask").example(Some(r#"Bearer realm="restain""#.into())).build(),
        ),
        (
            "RateLimit",
            header(
                text(),
                "Of a key with a rate, on every answer: requests left now, and seconds until the \
                next",
            )
            .example(Some(r#""key";r=0;t=1"#.into()))
            .build(),
        ),
        (
            "RateLimit-Policy",
            header(
                text(),
                "Of a key with a rate, on every answer: requests at once, and seconds in which \
                they come back",
            )
            .example(Some(r#""key";q=100;w=2"#.into()))
            .build(),
        ),
        (
            "Accept-Encoding",
            header(text(), "Of `unsupported_encoding`: how a body may be compressed")
                .example(Some("gzip, deflate".into()))
                .build(),
        ),
        (
            "Allow",
            header(text(), "The methods that the path has")
                .example(Some("GET,HEAD,POST".into()))
                .build(),
        ),
    ]
}
