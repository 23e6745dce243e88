//! Every route of this API. An operation takes its method and path from `#[utoipa::path]` at its
//! handler; the rest of its declaration is here.

use axum::http::{Method, header};
use axum::routing::get;

use super::{accept, augment, encode, health, models, page, slides, styles};
use crate::serve::access::Scope;
use crate::serve::error::ErrorKind;
use crate::serve::middleware::route::Observed::{Fully, Quietly};
use crate::serve::middleware::route::Permission::{Needs, Public};
use crate::serve::middleware::route::{Observed, Permission, Route, Routes, Rules};
use crate::serve::transport::errors as e;

/// The files that examples of the API's description name, as they lie in the repository and under
/// the same path here.
pub(super) const FILES: [(&str, &str, &[u8]); 3] = [
    ("/docs/tile.png", "image/png", include_bytes!("../../../../docs/tile.png")),
    (
        "/docs/tiles.safetensors",
        accept::SAFETENSORS,
        include_bytes!("../../../../docs/tiles.safetensors"),
    ),
    (
        "/docs/references.safetensors",
        accept::SAFETENSORS,
        include_bytes!("../../../../docs/references.safetensors"),
    ),
];

/// The pages of Swagger UI, whose router comes from its library.
pub(super) const DOCS: [&str; 4] = ["/docs", "/docs/", "/docs/{*rest}", "/openapi.json"];

/// The operations of the API's description.
pub(super) fn operations() -> Routes {
    use Scope::{Augment, Metrics, Models, Styles};
    probes()
        .operation(
            augment::__path_augment,
            rules(
                Needs(Augment),
                Fully,
                &[e::SERVING, e::BODY, e::TILES, e::KEYS, e::AUGMENT, e::MODEL, e::ACCEPT],
            ),
            augment::augment,
        )
        .operation(
            encode::__path_encode,
            rules(Needs(Augment), Fully, &[e::SERVING, e::BODY, e::TILES, e::KEYS, e::MODEL]),
            encode::encode,
        )
        .operation(
            styles::__path_list,
            rules(
                Needs(Augment),
                Fully,
                &[e::SERVING, &[ErrorKind::MalformedRequest], e::MODEL, e::ACCEPT, e::LIST],
            ),
            styles::list,
        )
        .operation(
            styles::__path_add,
            rules(Needs(Styles), Fully, &[e::SERVING, e::BODY, e::TILES, e::ADD_STYLES, e::MODEL]),
            styles::add,
        )
        .operation(
            styles::__path_remove,
            rules(Needs(Styles), Fully, &[e::SERVING, e::PATH, e::REMOVE_STYLES, e::MODEL]),
            styles::remove,
        )
        .operation(
            slides::__path_list,
            rules(
                Needs(Augment),
                Fully,
                &[e::SERVING, &[ErrorKind::MalformedRequest], e::MODEL, e::LIST],
            ),
            slides::list,
        )
        .operation(
            slides::__path_add,
            rules(
                Needs(Styles),
                Fully,
                &[e::SERVING, e::BODY, e::TILES, e::KEYS, e::ADD_SLIDE, e::MODEL],
            ),
            slides::add,
        )
        .operation(
            slides::__path_remove,
            rules(Needs(Styles), Fully, &[e::SERVING, e::PATH, e::REMOVE_SLIDE, e::MODEL]),
            slides::remove,
        )
        .operation(models::__path_list, rules(Needs(Augment), Fully, &[e::SERVING]), models::list)
        .operation(
            models::__path_one,
            rules(Needs(Augment), Fully, &[e::SERVING, e::PATH, e::MODEL]),
            models::one,
        )
        .operation(
            models::__path_load,
            rules(Needs(Models), Fully, &[e::SERVING, e::PATH, e::BODY, e::LOAD, e::DEADLINE]),
            models::load,
        )
        .operation(
            models::__path_unload,
            rules(Needs(Models), Fully, &[e::SERVING, e::PATH, e::BODY, e::UNLOAD, e::DEADLINE]),
            models::unload,
        )
        .operation(
            health::__path_metrics,
            rules(Needs(Metrics), Quietly, &[e::FAILURE]),
            health::metrics,
        )
}

/// Whether the server is well, which the port for probes answers alone.
pub(super) fn probes() -> Routes {
    Routes::default()
        .operation(health::__path_live, rules(Public, Quietly, &[]), health::live)
        .operation(health::__path_ready, rules(Public, Quietly, &[e::SERVING]), health::ready)
}

/// Pages and files, which the description of the API leaves out.
pub(super) fn pages() -> Routes {
    let file =
        |routes: Routes, (path, media_type, bytes): (&'static str, &'static str, &'static [u8])| {
            let handler = async move || ([(header::CONTENT_TYPE, media_type)], bytes);
            routes.route(page_at(path), get(handler))
        };
    FILES.into_iter().fold(Routes::default().route(page_at("/"), get(page::page)), file)
}

/// A public page. Those of Swagger UI are declared by it alone.
pub(super) fn page_at(path: &'static str) -> Route {
    let rules = rules(Public, Fully, &[&[ErrorKind::RouteNotFound]]);
    Route { method: Method::GET, path: path.into(), rules }
}

fn rules(
    permission: Permission,
    observed: Observed,
    errors: &'static [&'static [ErrorKind]],
) -> Rules {
    Rules { permission, observed, errors }
}
