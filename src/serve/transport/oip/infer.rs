//! A request and its answer between the two wires and the pipeline.

use std::sync::Arc;
use std::time::Instant;

use super::ignored::Ignored;
use super::input::{self, Input, Pictures};
use super::parameters::{self, Parameters};
use crate::serve::admission::Permit;
use crate::serve::app::App;
use crate::serve::cache::Tenant;
use crate::serve::error::Error;
use crate::serve::pipeline::{Answer, Request};

/// A request as both wires have it.
pub(crate) struct Infer {
    /// NAME or NAME/VERSION; nothing is the server's default.
    pub model: Option<String>,
    pub parameters: Parameters,
    pub inputs: Vec<Input>,
    pub ignored: Ignored,
}

/// What a request came with.
pub(super) struct Arrival {
    /// For its bytes.
    pub permit: Arc<Permit>,
    /// Whose encodings it may use.
    pub tenant: Tenant,
    /// When the first of them came.
    pub received: Instant,
    /// The call's own deadline in milliseconds, where its wire has one.
    pub deadline_ms: Option<u64>,
}

/// # Errors
/// One of the table's kinds, with the sentence for the caller.
pub(super) async fn infer(app: &App, infer: Infer, arrival: Arrival) -> Result<Answer, Error> {
    let pipeline = app.pipeline()?;
    let Infer { model, parameters, inputs, mut ignored } = infer;
    let ask = parameters::ask(parameters, &mut ignored);
    ignored.log();
    let mut ask = ask?;
    let Pictures { tiles, references } = input::pictures(inputs)?;
    let Arrival { permit, tenant, received, deadline_ms } = arrival;
    ask.model = model;
    ask.timeout_ms = ask.timeout_ms.into_iter().chain(deadline_ms).min();
    pipeline.augment(Request { ask, tiles, references, received, permit, tenant }).await
}

/// A model's name and version in one; nothing when both are empty.
pub(super) fn model(name: &str, version: &str) -> Option<String> {
    match (name, version) {
        ("", "") => None,
        (name, "") => Some(name.to_owned()),
        (name, version) => Some(format!("{name}/{version}")),
    }
}
