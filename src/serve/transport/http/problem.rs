//! An [`Error`] as `application/problem+json` (RFC 9457). Status, code and title come from the one
//! table.

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::serve::error::{Error, ErrorKind};
use crate::serve::transport::inflate::Encoding;

pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// What every refusal and failure looks like.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// `urn:restain:` and the code.
    #[serde(rename = "type")]
    #[schema(pattern = "^urn:restain:[a-z_]+$")]
    problem_type: String,
    /// What the code means, whatever the request.
    title: &'static str,
    /// As in the status line.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Which field, which value, and what is allowed.
    detail: String,
    /// For programs: it never changes.
    code: &'static str,
    /// The list at fault, `tile`, `key` or `reference`, when one of its items is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^(tile|key|reference)$")]
    list: Option<&'static str>,
    /// The item at fault, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    index: Option<usize>,
    /// All items at fault, when the code is `tile_not_held`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    indices: Vec<usize>,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let row = error.kind.row();
        Self {
            problem_type: format!("urn:restain:{}", row.code),
            title: row.title,
            status: row.http_status,
            detail: error.detail,
            code: row.code,
            list: error.at.map(|fault| fault.list),
            index: error.at.map(|fault| fault.index),
            indices: error.indices,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.kind.row().http_status)
            .expect("the table holds statuses of 400 to 599");
        let (kind, retry_after) = (self.kind, self.retry_after);
        let body =
            serde_json::to_vec(&Problem::from(self)).expect("a problem is strings and numbers");
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if let Some(wait) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        if kind == ErrorKind::UnsupportedEncoding {
            let read = HeaderValue::from_static(Encoding::READ);
            response.headers_mut().insert(header::ACCEPT_ENCODING, read);
        }
        // For the log.
        response.extensions_mut().insert(kind);
        response
    }
}

/// No such path.
pub(super) async fn route_not_found(uri: axum::http::Uri) -> Error {
    Error::new(
        ErrorKind::RouteNotFound,
        format!("nothing is served under {}; /docs lists what is", uri.path()),
    )
}

/// Around routes that are not ours: they have no page of this name, and say so in a form of their
/// own.
pub(super) async fn instead_of_text(request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let response = next.run(request).await;
    if response.status() == StatusCode::NOT_FOUND {
        route_not_found(uri).await.into_response()
    } else {
        response
    }
}

/// The path exists, the method does not.
pub(super) async fn method_not_allowed(method: axum::http::Method, uri: axum::http::Uri) -> Error {
    Error::new(
        ErrorKind::MethodNotAllowed,
        format!("{} is not served for {method}; /docs lists what is", uri.path()),
    )
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::{Router, routing::get};
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn panicking() -> &'static str {
        panic!("a bug with a secret in it")
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_problem_without_its_message() {
        let router = Router::<()>::new().route("/", get(panicking)).layer(CatchPanicLayer::custom(
            |_: Box<dyn std::any::Any + Send>| Error::panicked().into_response(),
        ));
        for _ in 0..2 {
            let request = axum::extract::Request::new(axum::body::Body::empty());
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 500);
            let body = to_bytes(response.into_body(), 10_000).await.unwrap();
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains("\"code\":\"internal\"") && !body.contains("secret"), "{body}");
        }
    }
}
