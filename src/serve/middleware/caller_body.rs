//! Response body that is written for its caller: what a stream of answers lends, or queues, while
//! it is written counts as the caller's.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

use crate::serve::caller::Caller;

pub(super) struct CallerBody {
    body: Body,
    caller: Caller,
}

impl CallerBody {
    pub(super) fn new(body: Body, caller: Caller) -> Self {
        Self { body, caller }
    }
}

impl HttpBody for CallerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, caller } = &mut *self;
        caller.run(|| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
