//! The id of a request, by which the log is searched: the caller's own where it can stand in a
//! line, else one made here.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

const HEADER: &str = "x-request-id";
/// Longest id that is taken over.
const MAX_LENGTH: usize = 128;

/// Takes away an id that is too long, or has what makes a line of the log hard to read.
pub(super) async fn validate_request_id(mut request: Request, next: Next) -> Response {
    let is_fit = |id: &[u8]| {
        (1..=MAX_LENGTH).contains(&id.len())
            && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._:/+=-".contains(byte))
    };
    if request.headers().get(HEADER).is_some_and(|id| !is_fit(id.as_bytes())) {
        request.headers_mut().remove(HEADER);
    }
    next.run(request).await
}
