//! Many requests over one call, each answered by its own work.
//!
//! Requests are read only while there is room among those in work and those answered but not taken,
//! so flow control holds back a slow reader, and no other caller. When the server ends, no further
//! request is read, and what is in work is answered.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::status::status;
use crate::serve::access::{Pass, Ticket};
use crate::serve::app::App;
use crate::serve::error::Error;
use crate::serve::runtime::lifecycle::Stage;
use crate::serve::trace;
use crate::serve::transport::rpc::memory_limit::{Message, Messages};
use crate::serve::transport::rpc::write_timeout::ResponsePermits;

/// Requests of one stream in work at once: more than fill an encoder and the wire both ways, few
/// enough that one stream does not fill the server.
const IN_WORK: usize = 16;

/// Longest time after which a key that has no request left is looked at again: its rate may be
/// another by then, or it gone.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The requests of a call, and what goes with them.
pub(crate) struct Calls<Asked> {
    pub app: Arc<App>,
    pub requests: Streaming<Asked>,
    pub messages: Messages,
    /// The key that it began with, which is asked for again with every message.
    pub ticket: Ticket,
    /// What the connection holds for the answer under way.
    pub held: ResponsePermits,
}

/// The answers, each with what it holds until it is sent. `InWork` says in which order:
/// `FuturesOrdered` in that of the requests, `FuturesUnordered` as they are ready.
pub(crate) fn answers<Asked, Answer, Work, InWork>(
    calls: Calls<Asked>,
    work: impl Fn(Asked, Message) -> Work + Send + 'static,
) -> impl Stream<Item = Result<Answer, Status>>
where
    Asked: Send + 'static,
    Answer: Send + 'static,
    Work: Future<Output = (Answer, ResponsePermits)> + Send + 'static,
    InWork:
        Default + Extend<Work> + Stream<Item = (Answer, ResponsePermits)> + Send + Unpin + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let held = calls.held.clone();
    tokio::spawn(trace::within(read_and_answer::<_, _, _, InWork>(calls, work, sender)));
    ReceiverStream::new(receiver).map(move |answered: Result<(Answer, ResponsePermits), Status>| {
        answered.map(|(answer, permits)| {
            held.take_over(permits);
            answer
        })
    })
}

/// Until one of both sides ends.
async fn read_and_answer<Asked, Answer, Work, InWork>(
    calls: Calls<Asked>,
    work: impl Fn(Asked, Message) -> Work,
    answers: mpsc::Sender<Result<(Answer, ResponsePermits), Status>>,
) where
    InWork: Default + Extend<Work> + Stream<Item = (Answer, ResponsePermits)> + Unpin,
{
    let Calls { app, mut requests, messages, ticket, .. } = calls;
    let mut stages = app.lifecycle.stages();
    let (mut in_work, mut count) = (InWork::default(), 0);
    // Of the messages in work but one, which has the call's own.
    let mut places: Vec<Pass> = Vec::new();
    // The call itself was admitted with its first message.
    let (mut more, mut is_first) = (true, true);
    // A message over its key's rate or concurrency, and until when: nothing after it is read.
    let mut early: Option<(Asked, Instant)> = None;
    while more || count > 0 || early.is_some() {
        let until = early.as_ref().map_or_else(Instant::now, |(_, until)| *until);
        let answered = tokio::select! {
            () = answers.closed() => return,
            () = tokio::time::sleep_until(until), if early.is_some() => {
                let (request, _) = early.take().expect("there is one");
                match app.access.judge_again(&ticket, count == 0) {
                    Ok(place) => {
                        places.extend(place);
                        in_work.extend([work(request, messages.take())]);
                        count += 1;
                    }
                    Err(Error { retry_after: Some(wait), .. }) => early = Some((request,
                        Instant::now() + wait.min(LOOK_AGAIN))),
                    Err(error) => {
                        let _ = answers.send(Err(status(error))).await;
                        return;
                    }
                }
                continue;
            }
            request = requests.message(), if more && early.is_none() && count < IN_WORK => {
                match request {
                    Ok(Some(request)) if std::mem::take(&mut is_first) => {
                        in_work.extend([work(request, messages.take())]);
                        count += 1;
                    }
                    Ok(Some(request)) => early = Some((request, Instant::now())),
                    Ok(None) => more = false,
                    Err(status) => {
                        // The caller's side broke, or sent what is no message: nothing after it can
                        // be understood.
                        let _ = answers.send(Err(status)).await;
                        return;
                    }
                }
                continue;
            }
            Some(answered) = in_work.next() => answered,
            changed = stages.changed(), if more || early.is_some() => {
                if changed.is_err() || *stages.borrow_and_update() == Stage::Closed {
                    (more, early) = (false, None);
                }
                continue;
            }
        };
        count -= 1;
        places.truncate(usize::saturating_sub(count, 1));
        // Waiting for the reader; what is in work goes on when he has taken this.
        if answers.send(Ok(answered)).await.is_err() {
            return;
        }
    }
}
