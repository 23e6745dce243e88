//! The write timeout of a call's answer, against slow readers. Over HTTP/2 a reader that takes
//! nothing stops its own stream alone; the connection lives on, and so would the answer's memory,
//! which is freed after the timeout.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::{Request as HttpRequest, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response as HttpResponse;
use bytes::Bytes;
use http_body::Frame;
use tokio::task::JoinHandle;
use tonic::{Response, Status};

use crate::serve::admission::Permit;
use crate::serve::app::App;
use crate::serve::transport::rpc::zero_copy::ZeroCopyFields;

/// Bytes handed over at once: whatever is handed over, the connection keeps in memory until the
/// reader takes it.
const PIECE: usize = 256 << 10;

/// The permits that an answer needs until it is sent. A handler puts it among the extensions of its
/// response; a stream puts in those of the answer under way.
#[derive(Clone, Default)]
pub(crate) struct ResponsePermits(Arc<Mutex<Vec<Arc<Permit>>>>);

impl ResponsePermits {
    pub(crate) fn new(permits: Vec<Arc<Permit>>) -> Self {
        Self(Arc::new(Mutex::new(permits)))
    }

    /// The answer `message`, which needs them.
    pub(crate) fn with<T>(self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        response.extensions_mut().insert(self);
        response
    }

    /// The same, with the fields of `message` that were left out of it.
    pub(crate) fn with_tail<T>(self, message: T, tail: ZeroCopyFields) -> Response<T> {
        let mut response = self.with(message);
        response.extensions_mut().insert(tail);
        response
    }

    /// Holds what `next` holds, and no longer what was held before.
    pub(crate) fn take_over(&self, next: Self) {
        let permits = std::mem::take(&mut *next.lock());
        *self.lock() = permits;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Permit>>> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

/// Puts the body of an answer into a [`WriteTimeoutBody`].
pub(super) async fn limit_write_time(
    State(app): State<Arc<App>>,
    request: HttpRequest,
    next: Next,
) -> HttpResponse {
    let mut response = next.run(request).await;
    let permits = response.extensions_mut().remove::<ResponsePermits>().unwrap_or_default();
    let fields = response.extensions_mut().remove::<ZeroCopyFields>().unwrap_or_default();
    let timeout = app.config.write_timeout.0;
    response.map(|body| Body::new(WriteTimeoutBody::new(body, fields, permits, timeout)))
}

pub(super) struct WriteTimeoutBody {
    answer: Arc<Mutex<Answer>>,
    timeout: Duration,
    watch: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Answer {
    /// Nothing once it has been taken away.
    body: Option<Body>,
    /// What the body gave and was not handed over yet.
    rest: Bytes,
    /// What comes behind the body's one message.
    tail: ZeroCopyFields,
    /// Whether the message has begun.
    begun: bool,
    /// What comes behind that.
    trailers: Option<HeaderMap>,
    /// Since when the reader has had something to take.
    offered: Option<Instant>,
    #[expect(dead_code, reason = "it is kept, and given back when the answer goes")]
    permits: ResponsePermits,
}

impl WriteTimeoutBody {
    pub(super) fn new(
        body: Body,
        tail: ZeroCopyFields,
        permits: ResponsePermits,
        timeout: Duration,
    ) -> Self {
        let answer = Answer { body: Some(body), tail, permits, ..Answer::default() };
        Self { answer: Arc::new(Mutex::new(answer)), timeout, watch: None }
    }
}

impl HttpBody for WriteTimeoutBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let shared = Arc::clone(&self.answer);
        let mut answer = lock(&shared);
        answer.offered = None;
        match ready!(answer.poll_more(cx)) {
            Some(Ok(())) => {}
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {
                return Poll::Ready(
                    answer.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
                );
            }
        }
        let size = answer.rest.len().min(PIECE);
        let piece = answer.rest.split_to(size);
        answer.offered = Some(Instant::now());
        drop(answer);
        let timeout = self.timeout;
        self.watch.get_or_insert_with(|| tokio::spawn(watch(shared, timeout)));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        let answer = lock(&self.answer);
        answer.rest.is_empty()
            && answer.trailers.is_none()
            && answer.body.as_ref().is_some_and(HttpBody::is_end_stream)
    }
}

impl Answer {
    /// Sees to it that there is something to hand over; nothing when only trailers are left, or not
    /// even those.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), axum::BoxError>>> {
        while self.rest.is_empty() {
            if self.trailers.is_none() {
                let Some(body) = &mut self.body else {
                    return Poll::Ready(Some(Err(unread().into())));
                };
                match ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data))
                {
                    Some(Ok(Ok(data))) if self.begun => self.rest = data,
                    Some(Ok(Ok(data))) => {
                        (self.rest, self.begun) = (self.tail.announce(data)?, true)
                    }
                    Some(Ok(Err(frame))) => self.trailers = frame.into_trailers().ok(),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    None => return Poll::Ready(None),
                }
            } else {
                match self.tail.next() {
                    Some(piece) if self.begun => self.rest = piece,
                    _ => return Poll::Ready(None),
                }
            }
        }
        Poll::Ready(Some(Ok(())))
    }
}

impl Drop for WriteTimeoutBody {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// Drops the answer, with all that it holds, when its reader has taken none of it for so long.
async fn watch(answer: Arc<Mutex<Answer>>, timeout: Duration) {
    loop {
        let offered = lock(&answer).offered;
        let wake = offered.unwrap_or_else(Instant::now) + timeout;
        tokio::time::sleep_until(wake.into()).await;
        let mut answer = lock(&answer);
        if answer.offered.is_some_and(|since| since.elapsed() >= timeout) {
            tracing::debug!(?timeout, "an answer was not read in time, and is dropped");
            *answer = Answer::default();
            return;
        }
    }
}

fn lock(answer: &Mutex<Answer>) -> MutexGuard<'_, Answer> {
    answer.lock().expect("no code panics while it holds this lock")
}

fn unread() -> Status {
    Status::cancelled("the answer was not read in time, and was dropped")
}
