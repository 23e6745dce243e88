//! AugmentStream: many requests over one call, each answered when it is ready.
//!
//! Requests are read only while there is room among those in work and those answered but not taken, so a caller who does
//! not read is held by flow control, and nobody else is. When the server ends, no further request is read, and what is in
//! work is answered.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::proto::augment_stream_response::Result as Outcome;
use super::{answer, proto, service};
use crate::serve::app::App;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::lifecycle::Stage;
use crate::serve::rpc::{Held, Message, Messages};

/// Requests of one stream in work at once: more than fill an encoder and the wire both ways, few enough that one stream
/// is not the whole house.
const IN_WORK: usize = 16;
const MAX_ID: usize = 256;

/// An answer, and what it holds until it is sent.
type Answered = (proto::AugmentStreamResponse, Held);

/// The answers to `requests`. `held` is what the connection holds for the answer under way; `deadline_ms` is the call's,
/// counted for each request from its arrival.
pub fn answers(
    app: Arc<App>,
    requests: Streaming<proto::AugmentStreamRequest>,
    messages: Messages,
    held: Held,
    deadline_ms: Option<u64>,
) -> impl Stream<Item = Result<proto::AugmentStreamResponse, Status>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(work(app, requests, messages, deadline_ms, sender));
    ReceiverStream::new(receiver).map(move |answered: Result<Answered, Status>| {
        answered.map(|(answer, permits)| {
            held.take_over(permits);
            answer
        })
    })
}

/// Reads and answers until one of both sides ends.
async fn work(
    app: Arc<App>,
    mut requests: Streaming<proto::AugmentStreamRequest>,
    messages: Messages,
    deadline_ms: Option<u64>,
    answers: mpsc::Sender<Result<Answered, Status>>,
) {
    let mut stages = app.lifecycle.stages();
    let mut in_work = FuturesUnordered::new();
    let mut more = true;
    while more || !in_work.is_empty() {
        let answered = tokio::select! {
            () = answers.closed() => return,
            request = requests.message(), if more && in_work.len() < IN_WORK => {
                match request {
                    Ok(Some(request)) => in_work.push(one(&app, request, messages.take(), deadline_ms)),
                    Ok(None) => more = false,
                    Err(status) => {
                        // The caller's side broke, or sent what is no message: nothing after it can be understood.
                        let _ = answers.send(Err(status)).await;
                        return;
                    }
                }
                continue;
            }
            Some(answered) = in_work.next() => answered,
            changed = stages.changed(), if more => {
                more = changed.is_ok() && *stages.borrow_and_update() != Stage::Closed;
                continue;
            }
        };
        // Waiting for the reader; what is in work goes on when he has taken this.
        if answers.send(Ok(answered)).await.is_err() {
            return;
        }
    }
}

async fn one(app: &App, request: proto::AugmentStreamRequest, message: Message, deadline_ms: Option<u64>) -> Answered {
    let proto::AugmentStreamRequest { id, request } = request;
    let made = if id.len() > MAX_ID {
        let detail = format!("id has {} bytes, and may have at most {MAX_ID}", id.len());
        Err(Error::new(ErrorKind::MalformedRequest, detail))
    } else {
        service::augment(app, request.unwrap_or_default(), deadline_ms, message).await
    };
    let (result, held) = match made {
        Ok((response, held)) => (Outcome::Response(response), held),
        Err(error) => (Outcome::Problem(answer::problem(error)), Held::default()),
    };
    (proto::AugmentStreamResponse { id, result: Some(result) }, held)
}
