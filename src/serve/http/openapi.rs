//! The description of the API, made from the handlers and the one table of errors. `openapi.yaml` at the root of the
//! repository is what this gives, and a test says so.

use std::collections::BTreeMap;

use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder, Schema};
use utoipa::{Modify, OpenApi};

use super::{augment, encode, health, models, problem, styles};
use crate::serve::error::{Error, ErrorKind};

#[derive(OpenApi)]
#[openapi(
    info(title = "restain", description = "Domain-shifted histopathology tiles on tap: tiles in, the same tiles in other stains out."),
    paths(
        augment::augment, encode::encode, styles::list, styles::add, styles::remove, models::list, models::one, models::load,
        models::unload, health::live, health::ready, health::metrics
    ),
    components(schemas(problem::Problem)),
    tags(
        (name = "augment", description = "Tiles in, variants out"),
        (name = "styles", description = "The style bank"),
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
            for (method, operation) in [("get", &mut item.get), ("post", &mut item.post), ("delete", &mut item.delete)] {
                let Some(operation) = operation else { continue };
                let kinds: Vec<ErrorKind> = ErrorKind::ALL.iter().copied().filter(|kind| can_give(method, path, *kind)).collect();
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
fn can_give(method: &str, path: &str, kind: ErrorKind) -> bool {
    use ErrorKind as Kind;
    let is_of_all = matches!(kind, Kind::NotReady | Kind::Draining | Kind::Internal);
    let is_of_bodies = matches!(kind, Kind::MalformedRequest | Kind::BodyTooLarge);
    match (method, path) {
        ("post", "/v1/augment") => kind == Kind::ModelNotFound || !(is_of_models(kind) || is_of_added_styles(kind)),
        ("post", "/v1/encode") => {
            is_of_all
                || is_of_bodies
                || is_of_tiles(kind)
                || matches!(kind, Kind::ModelNotFound | Kind::TileNotHeld | Kind::TimeoutOutOfRange)
        }
        ("get", "/v1/styles") => is_of_all || matches!(kind, Kind::MalformedRequest | Kind::ModelNotFound | Kind::NotAcceptable),
        ("post", "/v1/styles") => {
            let is_of_removal = matches!(kind, Kind::DomainNotFound | Kind::DomainOfBundle);
            let is_of_adding = (is_of_added_styles(kind) && !is_of_removal) || kind == Kind::DomainForbidden;
            is_of_all || is_of_bodies || is_of_tiles(kind) || kind == Kind::NoStyles || is_of_adding || kind == Kind::ModelNotFound
        }
        ("delete", "/v1/styles/{domain}") => {
            let is_of_removal = matches!(kind, Kind::DomainNotFound | Kind::DomainOfBundle | Kind::StateNotWritten);
            is_of_all || is_of_removal || matches!(kind, Kind::MalformedRequest | Kind::ModelNotFound)
        }
        (_, "/v1/models" | "/health/ready") => is_of_all,
        (_, "/v1/models/{name}") => is_of_all || kind == Kind::ModelNotFound,
        (_, "/v1/models/{name}/load") => is_of_all || is_of_bodies || (is_of_models(kind) && kind != Kind::ModelIsDefault),
        (_, "/v1/models/{name}/unload") => is_of_all || is_of_bodies || (is_of_models(kind) && kind != Kind::BundleRefused),
        (_, "/health/live") => false,
        _ => kind == Kind::Internal,
    }
}

/// Of loading and unloading; `model_not_found` is of these and of others.
/// What can be wrong with tiles that are to be encoded.
fn is_of_tiles(kind: ErrorKind) -> bool {
    use ErrorKind as Kind;
    matches!(
        kind,
        Kind::ImageTooLarge
            | Kind::TooManyTiles
            | Kind::RequestTooLarge
            | Kind::UnsupportedMediaType
            | Kind::NoTiles
            | Kind::UndecodableImage
            | Kind::TileSize
            | Kind::Overloaded
            | Kind::DeadlineExceeded
    )
}

fn is_of_models(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BundleRefused | ErrorKind::ModelIsDefault | ErrorKind::ModelName | ErrorKind::ModelNotFound)
}

/// Of adding and removing domains alone.
fn is_of_added_styles(kind: ErrorKind) -> bool {
    use ErrorKind::{BankFull, DomainExists, DomainName, DomainNotFound, DomainOfBundle, StateNotWritten, StylesOutOfRange};
    matches!(kind, BankFull | DomainExists | DomainName | DomainNotFound | DomainOfBundle | StateNotWritten | StylesOutOfRange)
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
