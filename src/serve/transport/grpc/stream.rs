//! AugmentStream: many requests over one call, each answered when it is ready.

use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use tokio_stream::Stream;
use tonic::Status;

use super::augment::augment;
use super::proto::augment_stream_response::Result as Outcome;
use super::{answer, proto};
use crate::serve::app::App;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::transport::rpc::{Calls, Message, ResponsePermits, answers as rpc_answers};

const MAX_ID: usize = 256;

/// The answers to the requests; `deadline_ms` is the call's, counted for each request from its
/// arrival.
pub(super) fn answers(
    calls: Calls<proto::AugmentStreamRequest>,
    deadline_ms: Option<u64>,
) -> impl Stream<Item = Result<proto::AugmentStreamResponse, Status>> {
    let app = Arc::clone(&calls.app);
    rpc_answers::<_, _, _, FuturesUnordered<_>>(calls, move |request, message| {
        one(Arc::clone(&app), request, message, deadline_ms)
    })
}

async fn one(
    app: Arc<App>,
    request: proto::AugmentStreamRequest,
    message: Message,
    deadline_ms: Option<u64>,
) -> (proto::AugmentStreamResponse, ResponsePermits) {
    let proto::AugmentStreamRequest { id, request } = request;
    let made = if id.len() > MAX_ID {
        let detail = format!("id has {} bytes, and may have at most {MAX_ID}", id.len());
        Err(Error::new(ErrorKind::MalformedRequest, detail))
    } else {
        augment(&app, request.unwrap_or_default(), deadline_ms, message).await
    };
    let (result, held) = match made {
        Ok((response, held)) => (Outcome::Response(response), held),
        Err(error) => (Outcome::Problem(answer::problem(error)), ResponsePermits::default()),
    };
    (proto::AugmentStreamResponse { id, result: Some(result) }, held)
}
