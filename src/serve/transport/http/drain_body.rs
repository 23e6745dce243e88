//! Drains what is left of a request's body when its answer is written, as after a 401 whose caller
//! is still sending. The connection can then carry the next request, and the caller, who may write
//! before reading, sees the answer instead of a broken pipe.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::runtime::Handle;

/// Most bytes of one body that are drained, and for how long.
const MOST_BYTES: u64 = 16 << 20;
const MOST_TIME: Duration = Duration::from_secs(5);
/// `left` of a body whose end is not known.
const UNKNOWN: u64 = u64::MAX;

/// Drains the body, or adds `connection: close` to the answer where more is left than is drained.
pub(crate) async fn take(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let left = Arc::new(AtomicU64::new(request.body().size_hint().exact().unwrap_or(UNKNOWN)));
    // A caller who waits for 100 Continue has sent nothing yet, and is not asked to.
    let waits = asks_leave(request.headers());
    let request = request.map(|body| Body::new(Watched { body, left: Arc::clone(&left), waits }));
    let mut response = next.run(request).await;
    let left = left.load(Ordering::Relaxed);
    if left > MOST_BYTES || (waits && left > 0) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn asks_leave(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// A body that is taken to its end, or as far as the limits go, when who was to read it drops it.
struct Watched {
    body: Body,
    left: Arc<AtomicU64>,
    /// For "100 Continue", which the first look at the body sends.
    waits: bool,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.waits = false;
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let left = match &polled {
            Poll::Ready(Some(Ok(_))) if !self.body.is_end_stream() => {
                self.body.size_hint().exact().unwrap_or(UNKNOWN)
            }
            Poll::Ready(_) => 0,
            Poll::Pending => return polled,
        };
        self.left.store(left, Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.waits || self.left.load(Ordering::Relaxed) == 0 {
            return;
        }
        // A body dropped outside of the runtime is one that no connection waits for any more.
        if let Ok(runtime) = Handle::try_current() {
            let body = std::mem::take(&mut self.body);
            runtime.spawn(tokio::time::timeout(MOST_TIME, forget(body)));
        }
    }
}

async fn forget(mut body: Body) {
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await {
        taken += frame.data_ref().map_or(0, Bytes::len) as u64;
        if taken > MOST_BYTES {
            return;
        }
    }
}
