//! The description of the API, made from the handlers and the one table of errors. `openapi.yaml` at the root of the
//! repository is what this gives, and a test says so.

use std::collections::BTreeMap;

use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder, Schema};
use utoipa::{Modify, OpenApi};

use super::{augment, health, models, problem, styles};
use crate::serve::error::{Error, ErrorKind};

#[derive(OpenApi)]
#[openapi(
    info(title = "restain", description = "Domain-shifted histopathology tiles on tap: tiles in, the same tiles in other stains out."),
    paths(
        augment::augment, styles::list, models::list, models::one, models::load, models::unload, health::live, health::ready,
        health::metrics
    ),
    components(schemas(problem::Problem)),
    tags(
        (name = "augment", description = "Tiles in, variants out"),
        (name = "models", description = "What is served"),
        (name = "health", description = "For load balancers and dashboards"),
    ),
    modifiers(&Errors),
)]
struct Api;

pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

/// Adds to each operation the errors it can give, each code with its title as an example.
struct Errors;

impl Modify for Errors {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut openapi.paths.paths {
            let kinds: Vec<ErrorKind> = ErrorKind::ALL.iter().copied().filter(|kind| can_give(path, *kind)).collect();
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                for (status, kinds) in by_status(&kinds) {
                    operation.responses.responses.insert(status.to_string(), RefOr::T(response(&kinds)));
                }
            }
        }
        if let Some(Schema::Object(problem)) = openapi.components.as_mut().and_then(|components| object(components)) {
            let codes = ErrorKind::ALL.iter().map(|kind| kind.row().code.into()).collect();
            if let Some(RefOr::T(Schema::Object(code))) = problem.properties.get_mut("code") {
                code.enum_values = Some(codes);
            }
        }
    }
}

fn object(components: &mut utoipa::openapi::Components) -> Option<&mut Schema> {
    match components.schemas.get_mut("Problem") {
        Some(RefOr::T(schema)) => Some(schema),
        _ => None,
    }
}

/// Which kinds a route can give. What can happen on any path or with any method stands with the first route.
fn can_give(path: &str, kind: ErrorKind) -> bool {
    use ErrorKind::{
        BodyTooLarge, BundleRefused, Draining, Internal, MalformedRequest, ModelIsDefault, ModelName, ModelNotFound, NotReady,
    };
    let is_of_all = matches!(kind, NotReady | Draining | Internal);
    match path {
        "/v1/augment" => !matches!(kind, BundleRefused | ModelIsDefault | ModelName),
        "/v1/styles" => is_of_all || matches!(kind, MalformedRequest | ModelNotFound),
        "/v1/models" | "/health/ready" => is_of_all,
        "/v1/models/{name}" => is_of_all || kind == ModelNotFound,
        "/v1/models/{name}/load" => {
            is_of_all || matches!(kind, MalformedRequest | BodyTooLarge | ModelName | ModelNotFound | BundleRefused)
        }
        "/v1/models/{name}/unload" => {
            is_of_all || matches!(kind, MalformedRequest | BodyTooLarge | ModelName | ModelNotFound | ModelIsDefault)
        }
        "/health/live" => false,
        _ => kind == Internal,
    }
}

fn by_status(kinds: &[ErrorKind]) -> BTreeMap<u16, Vec<ErrorKind>> {
    let mut statuses: BTreeMap<u16, Vec<ErrorKind>> = BTreeMap::new();
    for kind in kinds {
        statuses.entry(kind.row().http_status).or_default().push(*kind);
    }
    statuses
}

fn response(kinds: &[ErrorKind]) -> Response {
    let codes: Vec<&str> = kinds.iter().map(|kind| kind.row().code).collect();
    let examples = kinds.iter().map(|kind| {
        let row = kind.row();
        let example = problem::Problem::from(Error::new(*kind, format!("{}.", row.title)));
        let value = serde_json::to_value(example).expect("a problem is strings and numbers");
        (row.code, ExampleBuilder::new().summary(row.title).value(Some(value)).build())
    });
    let schema = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(schema)).examples_from_iter(examples).build();
    ResponseBuilder::new().description(codes.join(", ")).content(problem::MEDIA_TYPE, content).build()
}
