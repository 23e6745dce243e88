//! The errors of each operation, as its route declares them: its statuses, and of each status the
//! codes, as examples.

use std::collections::BTreeMap;

use utoipa::Modify;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};

use super::super::problem::{MEDIA_TYPE, Problem};
use super::{declared, operations, route};
use crate::serve::error::{Error, ErrorKind, Fault};

/// The response to a method that a path does not have.
const METHOD_NOT_ALLOWED: &str = "MethodNotAllowed";

/// Adds to each operation the errors it can give.
pub(super) struct Errors;

impl Modify for Errors {
    fn modify(&self, openapi: &mut OpenApi) {
        let declared = declared();
        for (method, path, operation) in operations(openapi) {
            let route = route(&declared, method, path);
            let kinds: Vec<ErrorKind> =
                ErrorKind::ALL.iter().copied().filter(|kind| route.can_give(*kind)).collect();
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

/// An example of the error, with the item at fault where a list can have one.
fn example(kind: ErrorKind) -> Error {
    let title = kind.row().title;
    let error = Error::new(
        kind,
        format!("{title}: the detail names the field, its value, and what is allowed"),
    );
    match kind {
        ErrorKind::TileNotHeld => error.at_all("key", vec![0, 3]),
        ErrorKind::UndecodableImage | ErrorKind::TileSize => {
            Error { at: Some(Fault { list: "tile", index: 2 }), ..error }
        }
        _ => error,
    }
}
