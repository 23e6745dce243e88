//! One request and its result. Response bodies are read and counted, and kept only to be verified.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Request, Response};
use serde::Deserialize;

use super::body::Prepared;
use super::check;
use super::connection::{Connection, Frames};
use super::target::Target;

/// The longest error body that is kept, in bytes.
const PROBLEM_BYTES: usize = 1 << 20;
/// Back-off after a refused connection: without it a closed loop would spin.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// What all exchanges of a run share.
pub(crate) struct Terms {
    pub target: Target,
    pub timeout: Duration,
    pub check: bool,
}

/// The result of a request.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub ended: Instant,
    /// Bytes of bodies. A request body counts whole, however much of it the server read.
    pub bytes_out: u64,
    pub bytes_in: u64,
    pub result: Result<Done, Failure>,
}

/// A 2xx response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Done {
    pub tiles: usize,
    pub variants: usize,
    pub timing: Option<ServerTiming>,
}

/// Milliseconds, as `Server-Timing` has them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ServerTiming {
    pub queue: f64,
    pub encode: f64,
    pub synthesise: f64,
    pub total: f64,
}

/// Why there is no 2xx response: the `code` of the server's problem document, or `connect`,
/// `timeout`, `broken`, `check`, or `http_…` for a response without one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub kind: String,
    pub detail: String,
}

impl Failure {
    pub(crate) fn new(kind: &str, detail: impl ToString) -> Self {
        Self { kind: kind.to_owned(), detail: detail.to_string() }
    }
}

/// Sends a request over the given connection or a new one; returns the connection if it can be
/// reused.
pub(crate) async fn exchange(
    terms: &Terms,
    idle: Option<Connection>,
    request: Prepared,
) -> (Option<Connection>, Outcome) {
    let mut sent = Outcome {
        ended: Instant::now(),
        bytes_out: 0,
        bytes_in: 0,
        result: Err(Failure::new("timeout", "")),
    };
    let answered =
        tokio::time::timeout(terms.timeout, attempt(terms, idle, &request, &mut sent)).await;
    let late =
        || (None, Err(Failure::new("timeout", format!("no answer within {:?}", terms.timeout))));
    let (connection, result) = answered.unwrap_or_else(|_| late());
    let refused = result.as_ref().is_err_and(|failure| failure.kind == "connect");
    let outcome = Outcome { ended: Instant::now(), result, ..sent };
    if refused {
        tokio::time::sleep(AFTER_REFUSAL).await;
    }
    (connection, outcome)
}

type Attempt = (Option<Connection>, Result<Done, Failure>);

async fn attempt(
    terms: &Terms,
    idle: Option<Connection>,
    request: &Prepared,
    sent: &mut Outcome,
) -> Attempt {
    let mut connection = match usable(idle).await {
        Some(connection) => connection,
        None => match Connection::open(&terms.target).await {
            Ok(connection) => connection,
            Err(error) => return (None, Err(Failure::new("connect", error))),
        },
    };
    sent.bytes_out = request.frames.iter().map(|frame| frame.len() as u64).sum();
    let head = Request::post(&request.path)
        .header(HOST, terms.target.authority())
        .header(CONTENT_TYPE, request.content_type)
        .header(ACCEPT, request.accept.media_type());
    let head = head
        .body(Frames::from(request.frames.clone()))
        .expect("the path and the headers are ASCII");
    let broken = |error: &dyn std::error::Error| Failure::new("broken", deepest(error));
    let response = match connection.send(head).await {
        Ok(response) => response,
        Err(error) => return (None, Err(broken(&error))),
    };
    let result = if response.status().is_success() {
        done(terms, response, request, &mut sent.bytes_in).await
    } else {
        Ok(Err(problem(response, &mut sent.bytes_in).await))
    };
    match result {
        Ok(result) => (Some(connection), result),
        Err(error) => (None, Err(broken(&error))),
    }
}

async fn usable(idle: Option<Connection>) -> Option<Connection> {
    let mut connection = idle?;
    connection.is_free().await.then_some(connection)
}

async fn done(
    terms: &Terms,
    response: Response<Incoming>,
    request: &Prepared,
    bytes_in: &mut u64,
) -> hyper::Result<Result<Done, Failure>> {
    let (head, mut body) = response.into_parts();
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            *bytes_in += data.len() as u64;
            if terms.check {
                kept.extend_from_slice(&data);
            }
        }
    }
    let checked = if terms.check { check::check(&head.headers, &kept, request) } else { Ok(()) };
    let done = Done {
        tiles: request.tiles,
        variants: request.tiles * request.variants,
        timing: server_timing(&head.headers),
    };
    Ok(checked.map(|()| done).map_err(|said| Failure::new("check", said)))
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    detail: String,
}

/// Reads the error of a response: its `code`, and its text.
async fn problem(response: Response<Incoming>, bytes_in: &mut u64) -> Failure {
    let status = response.status();
    let body = Limited::new(response.into_body(), PROBLEM_BYTES).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_else(|_| Bytes::new());
    *bytes_in += body.len() as u64;
    match serde_json::from_slice::<Problem>(&body) {
        Ok(Problem { code, detail }) => Failure { kind: code, detail },
        Err(_) => Failure::new(&format!("http_{}", status.as_u16()), status),
    }
}

fn server_timing(headers: &HeaderMap) -> Option<ServerTiming> {
    let text = headers.get("server-timing")?.to_str().ok()?;
    let mut timing = ServerTiming::default();
    for part in text.split(',') {
        let (name, ms) = part.split_once(";dur=")?;
        let ms = ms.trim().parse().ok()?;
        match name.trim() {
            "queue" => timing.queue = ms,
            "encode" => timing.encode = ms,
            "synthesise" => timing.synthesise = ms,
            "total" => timing.total = ms,
            _ => {}
        }
    }
    Some(timing)
}

/// Returns the innermost cause, the most specific one.
fn deepest(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), deepest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_timing_is_read_and_what_is_not_known_is_passed_over() {
        let read = |text: &str| {
            server_timing(
                &[("server-timing".parse().unwrap(), text.parse().unwrap())].into_iter().collect(),
            )
        };
        let timing = ServerTiming { queue: 1.5, encode: 20.25, synthesise: 0.5, total: 23.0 };
        assert_eq!(
            read(
                "queue;dur=1.5, encode;dur=20.25, cache;dur=9, synthesise;dur=0.5, total;dur=23.0"
            ),
            Some(timing)
        );
        assert_eq!(read("total"), None);
    }
}
