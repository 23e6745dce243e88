//! An error as the protocol's JSON has it: one sentence. Status and code come from the one table.

use std::any::Any;

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::serve::error::{Error, ErrorKind};
use crate::serve::transport::inflate::Encoding;

pub(super) struct Refusal(Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let status = StatusCode::from_u16(error.kind.row().http_status)
            .expect("the table holds statuses of 400 to 599");
        // The sentence begins with the code, for which the protocol has no field.
        let mut response = (status, Json(json!({"error": error.to_string()}))).into_response();
        if let Some(wait) = error.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        if error.kind == ErrorKind::UnsupportedEncoding {
            let read = HeaderValue::from_static(Encoding::READ);
            response.headers_mut().insert(header::ACCEPT_ENCODING, read);
        }
        // For the log.
        response.extensions_mut().insert(error.kind);
        response
    }
}

/// What a panic becomes.
pub(super) fn from_panic(_: Box<dyn Any + Send>) -> Response {
    Refusal(Error::panicked()).into_response()
}

/// What the protocol or its extensions may have, and this server has not.
pub(super) async fn not_served(uri: Uri) -> Refusal {
    let detail = format!(
        "{} is not served: of the protocol's extensions, GET /v2 lists those that are",
        uri.path()
    );
    Error::new(ErrorKind::RouteNotFound, detail).into()
}

/// The path exists, the method does not.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Refusal {
    Error::new(ErrorKind::MethodNotAllowed, format!("{} is not served for {method}", uri.path()))
        .into()
}
