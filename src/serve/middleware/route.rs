//! The declaration of a route: what is served under which path, who may call it, whether it is
//! logged, and which errors it gives. Each transport has one list of them; the access check, the
//! metrics' `route` label, the log, the traces and the error lists of the API's description read it
//! and nothing else.
//!
//! No field has a default: a route without a permission does not compile. A gRPC method without a
//! declaration stops the server from starting.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use utoipa::openapi::path::HttpMethod;

use crate::serve::access::Scope;
use crate::serve::app::App;
use crate::serve::error::ErrorKind;

/// What the metrics and the log call a request that no route fits: callers choose paths, and labels
/// must not grow with them.
pub(super) const UNMATCHED: &str = "unmatched";

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Everyone, from every origin: probes, and pages that hold no data of the server.
    Public,
    /// Holders of a key with this scope; everyone, if the server has no keys.
    Needs(Scope),
}

/// How much a route is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    /// A line of the log at `info`, a trace, and a place among the requests in flight that a
    /// stopping server waits for.
    Fully,
    /// A line at `debug` and nothing else: probes, scrapers and watchers, which call all the time.
    Quietly,
}

/// What holds for a route beside its method and path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub permission: Permission,
    pub observed: Observed,
    /// Groups of the errors that its handler gives. Those of the access check follow from
    /// `permission`.
    pub errors: &'static [&'static [ErrorKind]],
}

/// A route of a transport.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Of HTTP; every call of gRPC is a POST.
    pub method: Method,
    /// As axum matches it, or `/package.Service/Method`.
    pub path: Cow<'static, str>,
    pub rules: Rules,
}

impl Route {
    /// Whether a response may carry this kind of error: those of the handler, of the access check,
    /// and of a failure or a wrong method, which every route has.
    pub(crate) fn can_give(&self, kind: ErrorKind) -> bool {
        use ErrorKind as Kind;
        let of_access = matches!(
            kind,
            Kind::Unauthenticated | Kind::Forbidden | Kind::OriginForbidden | Kind::RateLimited
        );
        if of_access {
            return matches!(self.rules.permission, Permission::Needs(_));
        }
        self.rules.errors.iter().any(|group| group.contains(&kind))
    }
}

/// The routes of a transport, by path.
#[derive(Debug, Default)]
pub(crate) struct RouteTable(HashMap<Cow<'static, str>, Vec<Arc<Route>>>);

impl RouteTable {
    /// # Panics
    /// When a route is declared twice.
    pub(crate) fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut table: HashMap<_, Vec<Arc<Route>>> = HashMap::new();
        for route in routes {
            let same_path = table.entry(route.path.clone()).or_default();
            let is_new = same_path.iter().all(|other| other.method != route.method);
            assert!(is_new, "{} {} is declared twice", route.method, route.path);
            same_path.push(Arc::new(route));
        }
        Self(table)
    }

    /// The route of a path and a method. A method that the path does not have counts as the path's
    /// first: the same scope and label, before the router answers 405.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<&Arc<Route>> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let routes = self.0.get(path)?;
        routes.iter().find(|route| route.method == *method).or(routes.first())
    }
}

/// Handlers over HTTP with their declarations.
#[derive(Default)]
pub(crate) struct Routes {
    pub router: Router<Arc<App>>,
    pub declared: Vec<Route>,
}

impl Routes {
    /// Adds an operation of the API's description. Its method and path are those that
    /// `#[utoipa::path]` gives at the handler; `operation` is the struct `__path_HANDLER` which
    /// that makes.
    pub(crate) fn operation<P, H, T>(mut self, operation: P, rules: Rules, handler: H) -> Self
    where
        P: utoipa::Path,
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let _ = operation;
        for method in P::methods() {
            let (method, filter) = match method {
                HttpMethod::Get => (Method::GET, MethodFilter::GET),
                HttpMethod::Post => (Method::POST, MethodFilter::POST),
                HttpMethod::Delete => (Method::DELETE, MethodFilter::DELETE),
                _ => unreachable!("operations are GET, POST or DELETE"),
            };
            let route = Route { method, path: P::path().into(), rules };
            self = self.route(route, on(filter, handler.clone()));
        }
        self
    }

    /// Adds a route that the API's description leaves out.
    pub(crate) fn route(mut self, route: Route, handlers: MethodRouter<Arc<App>>) -> Self {
        self.router = self.router.route(&route.path, handlers);
        self.declared.push(route);
        self
    }

    /// Adds all of `others`.
    pub(crate) fn merge(mut self, others: Self) -> Self {
        self.router = self.router.merge(others.router);
        self.declared.extend(others.declared);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: Method, path: &'static str, permission: Permission) -> Route {
        let rules = Rules { permission, observed: Observed::Fully, errors: &[] };
        Route { method, path: path.into(), rules }
    }

    #[test]
    fn a_method_that_a_path_lacks_needs_what_its_first_method_needs() {
        let table = RouteTable::new([
            route(Method::GET, "/styles", Permission::Needs(Scope::Augment)),
            route(Method::POST, "/styles", Permission::Needs(Scope::Styles)),
        ]);
        let found = |method, path| table.find(&method, path).map(|route| route.rules.permission);
        assert_eq!(found(Method::POST, "/styles"), Some(Permission::Needs(Scope::Styles)));
        for method in [Method::GET, Method::HEAD, Method::PUT] {
            assert_eq!(found(method, "/styles"), Some(Permission::Needs(Scope::Augment)));
        }
        assert_eq!(found(Method::GET, "/style"), None);
    }

    #[test]
    #[should_panic(expected = "GET /a is declared twice")]
    fn a_route_is_declared_once() {
        let twice = route(Method::GET, "/a", Permission::Public);
        RouteTable::new([twice.clone(), twice]);
    }
}
