//! One augment request to its answer, for the call with one request and the one with many.

use std::sync::Arc;

use super::{answer, ask, proto};
use crate::serve::app::App;
use crate::serve::error::Error;
use crate::serve::pipeline::{Request as PipelineRequest, render};
use crate::serve::trace;
use crate::serve::transport::rpc::{Message, ResponsePermits};

/// One request to its answer, and the permits that the answer needs until it is sent. `deadline` is
/// the call's, in milliseconds from the message's arrival.
pub(super) async fn augment(
    app: &App,
    request: proto::AugmentRequest,
    deadline: Option<u64>,
    message: Message,
) -> Result<(proto::AugmentResponse, ResponsePermits), Error> {
    let pipeline = app.pipeline()?;
    let ask::Asked { mut ask, tiles, references } = ask::augment(request)?;
    ask.timeout_ms = ask.timeout_ms.into_iter().chain(deadline).min();
    let Message { permit, tenant, received } = message;
    let mut answer = pipeline
        .augment(PipelineRequest { ask, tiles, references, received, permit, tenant })
        .await?;
    let held = ResponsePermits::new(std::mem::take(&mut answer.permits));
    let answer = Arc::new(answer);
    // Only pictures are work; pixels lie ready, and would wait behind other people's variants.
    let write = async {
        let pictures = match answer.output.format {
            Some(format) => Some(render::pictures(&app.cpu, &answer, format).await?),
            None => None,
        };
        Ok(answer::augmented(&answer, pictures, received.elapsed()))
    };
    Ok((trace::stage("write", write).await?, held))
}
