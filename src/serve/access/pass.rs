//! What a request that was let in carries with it, until the last byte of its answer is taken.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::keys::Scope;
use super::limit::Usage;

/// A place among the requests that a key may have at once, until dropped.
pub struct Pass {
    key: Option<(Arc<str>, Arc<Usage>)>,
    ticket: Ticket,
}

/// What a stream is judged by again, message by message: the digest of its token, and what it is for.
#[derive(Clone, Copy, Default)]
pub struct Ticket(pub(super) Option<([u8; 32], Scope)>);

impl Pass {
    /// Where no keys are asked for.
    pub(super) fn of_nobody() -> Self {
        Self { key: None, ticket: Ticket(None) }
    }

    pub(super) fn new(name: Arc<str>, usage: Arc<Usage>, ticket: Ticket) -> Self {
        Self { key: Some((name, usage)), ticket }
    }

    /// Whose it is.
    pub fn name(&self) -> Option<Arc<str>> {
        self.key.as_ref().map(|(name, _)| Arc::clone(name))
    }

    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// `body`, with this held on to until it is gone.
    pub fn with<B>(self, body: B) -> Passed<B> {
        Passed { body, _pass: self }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some((_, usage)) = &self.key {
            usage.leave();
        }
    }
}

/// A body, and the pass of who it goes to.
pub struct Passed<B> {
    body: B,
    _pass: Pass,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Passed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
