//! The errors of each operation: its statuses, and of each status the codes, as examples of it.

use std::collections::BTreeMap;

use utoipa::Modify;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};

use super::super::problem::{MEDIA_TYPE, Problem};
use super::locks::needs_key;
use super::operations;
use crate::serve::error::{Error, ErrorKind, Fault};

/// The response to a method that a path does not have.
const METHOD_NOT_ALLOWED: &str = "MethodNotAllowed";

/// Adds to each operation the errors it can give.
pub(super) struct Errors;

impl Modify for Errors {
    fn modify(&self, openapi: &mut OpenApi) {
        for (method, path, operation) in operations(openapi) {
            let kinds: Vec<ErrorKind> = ErrorKind::ALL
                .iter()
                .copied()
                .filter(|kind| can_give(method, path, *kind))
                .collect();
            let responses = &mut operation.responses.responses;
            for (status, kinds) in by_status(&kinds) {
                responses.insert(status.to_string(), RefOr::T(response(&kinds)));
            }
            responses
                .insert("405".to_owned(), RefOr::Ref(Ref::from_response_name(METHOD_NOT_ALLOWED)));
        }
        let components = openapi.components.as_mut().expect("there are schemas");
        components.responses.insert(
            METHOD_NOT_ALLOWED.to_owned(),
            RefOr::T(response(&[ErrorKind::MethodNotAllowed])),
        );
        let Some(RefOr::T(Schema::Object(problem))) = components.schemas.get_mut("Problem") else {
            panic!("a problem is described as an object");
        };
        let Some(RefOr::T(Schema::Object(code))) = problem.properties.get_mut("code") else {
            panic!("a problem has a code");
        };
        code.enum_values = Some(ErrorKind::ALL.iter().map(|kind| kind.row().code.into()).collect());
    }
}

/// Which kinds an operation can give, besides `method_not_allowed`.
fn can_give(method: &str, path: &str, kind: ErrorKind) -> bool {
    use ErrorKind as Kind;
    if matches!(
        kind,
        Kind::Unauthenticated | Kind::Forbidden | Kind::OriginForbidden | Kind::RateLimited
    ) {
        return needs_key(method, path);
    }
    let is_of_all = matches!(kind, Kind::NotReady | Kind::Draining | Kind::Internal);
    let is_of_bodies = matches!(kind, Kind::MalformedRequest | Kind::BodyTooLarge);
    // A name that holds a slash, or none at all, makes another path.
    let is_of_paths = matches!(kind, Kind::MalformedRequest | Kind::RouteNotFound);
    match (method, path) {
        ("post", "/v1/augment") => {
            let is_of_routing = matches!(kind, Kind::RouteNotFound | Kind::MethodNotAllowed);
            kind == Kind::ModelNotFound
                || !(is_of_routing || is_of_models(kind) || is_of_added_styles(kind))
        }
        ("post", "/v1/encode") => {
            is_of_all
                || is_of_bodies
                || is_of_tiles(kind)
                || matches!(kind, Kind::ModelNotFound | Kind::TileNotHeld | Kind::TimeoutOutOfRange)
        }
        ("get", "/v1/styles") => {
            is_of_all
                || matches!(
                    kind,
                    Kind::MalformedRequest | Kind::ModelNotFound | Kind::NotAcceptable
                )
        }
        ("post", "/v1/styles") => {
            let is_of_removal = matches!(kind, Kind::DomainNotFound | Kind::DomainOfBundle);
            let is_of_adding =
                (is_of_added_styles(kind) && !is_of_removal) || kind == Kind::DomainForbidden;
            is_of_all
                || is_of_bodies
                || is_of_tiles(kind)
                || kind == Kind::NoStyles
                || is_of_adding
                || kind == Kind::ModelNotFound
        }
        ("delete", "/v1/styles/{domain}") => {
            let is_of_removal =
                matches!(kind, Kind::DomainNotFound | Kind::DomainOfBundle | Kind::StateNotWritten);
            is_of_all || is_of_paths || is_of_removal || kind == Kind::ModelNotFound
        }
        (_, "/v1/models" | "/health/ready") => is_of_all,
        (_, "/v1/models/{name}") => is_of_all || is_of_paths || kind == Kind::ModelNotFound,
        (_, "/v1/models/{name}/load" | "/v1/models/{name}/unload") => {
            let is_of_other =
                if path.ends_with("/load") { Kind::ModelIsDefault } else { Kind::BundleRefused };
            let is_of_this = is_of_models(kind) && kind != is_of_other;
            is_of_all || is_of_paths || is_of_bodies || is_of_this || kind == Kind::DeadlineExceeded
        }
        (_, "/health/live") => false,
        _ => kind == Kind::Internal,
    }
}

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

/// Of loading and unloading; `model_not_found` is of these and of others.
fn is_of_models(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BundleRefused
            | ErrorKind::ModelIsDefault
            | ErrorKind::ModelName
            | ErrorKind::ModelNotFound
    )
}

/// Of adding and removing domains alone.
fn is_of_added_styles(kind: ErrorKind) -> bool {
    use ErrorKind::{
        BankFull, DomainExists, DomainName, DomainNotFound, DomainOfBundle, StateNotWritten,
        StylesOutOfRange,
    };
    matches!(
        kind,
        BankFull
            | DomainExists
            | DomainName
            | DomainNotFound
            | DomainOfBundle
            | StateNotWritten
            | StylesOutOfRange
    )
}

fn by_status(kinds: &[ErrorKind]) -> BTreeMap<u16, Vec<ErrorKind>> {
    let mut statuses: BTreeMap<u16, Vec<ErrorKind>> = BTreeMap::new();
    for kind in kinds {
        statuses.entry(kind.row().http_status).or_default().push(*kind);
    }
    statuses
}

fn response(kinds: &[ErrorKind]) -> Response {
    let codes: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.row().code)).collect();
    let examples = kinds.iter().map(|kind| {
        let row = kind.row();
        let value = serde_json::to_value(Problem::from(example(*kind)))
            .expect("a problem is strings and numbers");
        (row.code, ExampleBuilder::new().summary(row.title).value(Some(value)).build())
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .examples_from_iter(examples)
        .build();
    ResponseBuilder::new().description(codes.join(", ")).content(MEDIA_TYPE, content).build()
}

/// As a caller is told it; what is at fault in a list is told where one can be.
fn example(kind: ErrorKind) -> Error {
    let title = kind.row().title;
    let error = Error::new(
        kind,
        format!("{title}: here stands which field, which value, and what would be right"),
    );
    match kind {
        ErrorKind::TileNotHeld => error.at_all("key", vec![0, 3]),
        ErrorKind::UndecodableImage | ErrorKind::TileSize => {
            Error { at: Some(Fault { list: "tile", index: 2 }), ..error }
        }
        _ => error,
    }
}
