//! Which operations a key is for. A server without keys asks for none, so that the description offers both.

use axum::http::Method;
use utoipa::Modify;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};

use super::super::door;
use super::operations;

const KEY: &str = "key";

/// Adds the scheme, and to each operation whether it is behind it.
pub(super) struct Locks;

impl Modify for Locks {
    fn modify(&self, openapi: &mut OpenApi) {
        let text = "A key of the server's file, where it has one: `restain key` makes them. Each has scopes, of `augment`, `styles`, `models` and `metrics`.";
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
        let components = openapi.components.as_mut().expect("there are schemas");
        components.add_security_scheme(KEY, SecurityScheme::Http(scheme));
        for (method, path, operation) in operations(openapi) {
            if needs_key(method, path) {
                let with: SecurityRequirement = SecurityRequirement::new(KEY, Vec::<String>::new());
                operation.security = Some(vec![with, SecurityRequirement::default()]);
            }
        }
    }
}

/// Whether an operation is behind a key, when the server has keys.
pub(super) fn needs_key(method: &str, path: &str) -> bool {
    let method =
        Method::from_bytes(method.to_uppercase().as_bytes()).expect("the methods of operations");
    door::scope(&method, path).is_some()
}
