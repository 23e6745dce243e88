//! The description of the API, made from the handlers, the one table of errors and a table of
//! examples. `openapi.yaml` at the root of the repository is its output, which a test asserts;
//! others send every example to a server.
//!
//! The handlers describe what is theirs. Here is what stands around all of them: [`errors`], the
//! [`heads`] of requests and answers, [`locks`], [`forms`], [`links`] and [`examples`]. `/v2` is
//! not in it: the Open Inference Protocol is described elsewhere.

mod errors;
mod examples;
mod forms;
mod heads;
mod links;
mod locks;

use errors::Errors;
use examples::Examples;
use forms::Forms;
use heads::Heads;
use links::Links;
use locks::Locks;
use restain_request::schema::AddRequest;
use utoipa::OpenApi;

use super::{augment, encode, health, models, problem, routes, slides, styles};
use crate::serve::middleware::route::Route;
use crate::serve::pipeline::answer::{EncoderAbout, Provenance, WindowGrid};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "restain",
        description = "Domain-shifted histopathology tiles on tap: tiles in, the same tiles in \
            other stains out.\n\n\
            Every refusal is `application/problem+json`; programs compare its `code`. Any path \
            that is not here is 404 `route_not_found`, and any method that is not, 405 \
            `method_not_allowed`. The limits that are named are the server's defaults. The Open \
            Inference Protocol, under `/v2`, has a specification of its own.",
    ),
    servers((url = "/", description = "The server that this comes from")),
    paths(
        augment::augment, encode::encode, styles::list, styles::add, styles::remove, slides::list,
        slides::add, slides::remove, models::list, models::one, models::load, models::unload,
        health::live, health::ready, health::metrics
    ),
    components(schemas(problem::Problem, AddRequest, styles::PlacedStyle, EncoderAbout, WindowGrid,
        Provenance)),
    tags(
        (name = "augment", description = "Tiles in, variants out"),
        (name = "styles", description = "The style bank, and the slides of tiles"),
        (name = "models", description = "What is served"),
        (name = "health", description = "For load balancers and dashboards"),
    ),
    modifiers(&Errors, &Locks, &Heads, &Forms, &Links, &Examples),
)]
struct Api;

pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

/// The declarations of the routes that the description covers.
fn declared() -> Vec<Route> {
    routes::operations().declared
}

/// The declaration of an operation.
///
/// # Panics
/// When there is none: the handler is listed here, and served nowhere.
fn route<'a>(declared: &'a [Route], method: &str, path: &str) -> &'a Route {
    let is_it =
        |route: &&Route| route.method.as_str().eq_ignore_ascii_case(method) && route.path == path;
    declared.iter().find(is_it).unwrap_or_else(|| panic!("{method} {path} is not a route"))
}

/// Every operation, with its method and path.
fn operations(
    openapi: &mut utoipa::openapi::OpenApi,
) -> impl Iterator<Item = (&'static str, &str, &mut utoipa::openapi::path::Operation)> {
    openapi.paths.paths.iter_mut().flat_map(|(path, item)| {
        let methods =
            [("get", &mut item.get), ("post", &mut item.post), ("delete", &mut item.delete)];
        methods
            .into_iter()
            .filter_map(|(method, operation)| Some((method, path.as_str(), operation.as_mut()?)))
    })
}
