//! What of an answer goes into the next request: so that tools find their way from one operation to
//! another.

use utoipa::Modify;
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::{OpenApi, RefOr};

use super::operations;

/// Operation and status, name of the link, the operation it leads to, its parameter, and where the
/// value stands.
const LINKS: [(&str, &str, &str, &str, &str, &str); 6] = [
    ("add_styles", "201", "remove", "remove_styles", "domain", "$response.body#/domain"),
    ("add_slide", "201", "remove", "remove_slide", "slide", "$response.body#/slide"),
    ("list_models", "200", "model", "get_model", "name", "$response.body#/models/0/name"),
    ("list_models", "200", "load", "load_model", "name", "$response.body#/models/0/name"),
    ("load_model", "200", "model", "get_model", "name", "$response.body#/name"),
    ("load_model", "200", "unload", "unload_model", "name", "$response.body#/name"),
];

pub(super) struct Links;

impl Modify for Links {
    fn modify(&self, openapi: &mut OpenApi) {
        for (_, _, operation) in operations(openapi) {
            let id = operation.operation_id.clone();
            for (_, status, name, to, parameter, value) in
                LINKS.iter().filter(|link| Some(link.0) == id.as_deref())
            {
                let Some(RefOr::T(response)) = operation.responses.responses.get_mut(*status)
                else {
                    panic!("links stand where there is such an answer");
                };
                let link =
                    LinkBuilder::new().operation_id(*to).parameter(*parameter, *value).build();
                response.links.insert((*name).to_owned(), RefOr::T(link));
            }
        }
    }
}
