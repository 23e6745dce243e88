//! Which operations need a key. A server without keys asks for none, so the description offers
//! both.

use utoipa::Modify;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};

use super::{declared, operations, route};
use crate::serve::middleware::route::Permission;

const KEY: &str = "key";

/// Adds the scheme, and to each operation whether it is behind it.
pub(super) struct Locks;

impl Modify for Locks {
    fn modify(&self, openapi: &mut OpenApi) {
        let text = "A key of the server's file, where it has one: `restain key` makes them. Each \
            has scopes, of `augment`, `styles`, `models` and `metrics`.";
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build();
        let components = openapi.components.as_mut().expect("there are schemas");
        components.add_security_scheme(KEY, SecurityScheme::Http(scheme));
        let declared = declared();
        for (method, path, operation) in operations(openapi) {
            if route(&declared, method, path).rules.permission != Permission::Public {
                let with: SecurityRequirement = SecurityRequirement::new(KEY, Vec::<String>::new());
                operation.security = Some(vec![with, SecurityRequirement::default()]);
            }
        }
    }
}
