//! Many requests over one call, each answered by its own work.
//!
//! Requests are read only while there is room among those in work and those answered but not taken, so a caller who does
//! not read is held by flow control, and nobody else is. When the server ends, no further request is read, and what is in
//! work is answered.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::metered::{Message, Messages};
use super::paced::Held;
use crate::serve::app::App;
use crate::serve::lifecycle::Stage;

/// Requests of one stream in work at once: more than fill an encoder and the wire both ways, few enough that one stream
/// is not the whole house.
const IN_WORK: usize = 16;

/// The requests of a call, and what goes with them.
pub struct Calls<Asked> {
    pub app: Arc<App>,
    pub requests: Streaming<Asked>,
    pub messages: Messages,
    /// What the connection holds for the answer under way.
    pub held: Held,
}

/// The answers, each with what it holds until it is sent. `InWork` says in which order: `FuturesOrdered` in that of the
/// requests, `FuturesUnordered` as they are ready.
pub fn answers<Asked, Answer, Work, InWork>(
    calls: Calls<Asked>,
    work: impl Fn(Asked, Message) -> Work + Send + 'static,
) -> impl Stream<Item = Result<Answer, Status>>
where
    Asked: Send + 'static,
    Answer: Send + 'static,
    Work: Future<Output = (Answer, Held)> + Send + 'static,
    InWork: Default + Extend<Work> + Stream<Item = (Answer, Held)> + Send + Unpin + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let held = calls.held.clone();
    tokio::spawn(read_and_answer::<_, _, _, InWork>(calls, work, sender));
    ReceiverStream::new(receiver).map(move |answered: Result<(Answer, Held), Status>| {
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
    answers: mpsc::Sender<Result<(Answer, Held), Status>>,
) where
    InWork: Default + Extend<Work> + Stream<Item = (Answer, Held)> + Unpin,
{
    let Calls { app, mut requests, messages, .. } = calls;
    let mut stages = app.lifecycle.stages();
    let (mut in_work, mut count) = (InWork::default(), 0);
    let mut more = true;
    while more || count > 0 {
        let answered = tokio::select! {
            () = answers.closed() => return,
            request = requests.message(), if more && count < IN_WORK => {
                match request {
                    Ok(Some(request)) => {
                        in_work.extend([work(request, messages.take())]);
                        count += 1;
                    }
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
        count -= 1;
        // Waiting for the reader; what is in work goes on when he has taken this.
        if answers.send(Ok(answered)).await.is_err() {
            return;
        }
    }
}
