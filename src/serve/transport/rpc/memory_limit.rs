//! The memory limit of a call's body: admission grants the memory before a message is gathered. The
//! first five bytes of a gRPC message hold its length; tonic would gather as much as it is allowed
//! to, for every caller at once.
//!
//! When no memory is free a call is refused, as over HTTP; a stream waits, and with it, by flow
//! control, its caller. Each message, and with it a call that has only one, has to be complete
//! within the server's longest time for a request. Between two messages of a stream no clock runs:
//! a stream may be kept.
//!
//! A message that comes compressed is decompressed here and handed on as it is: tonic would
//! decompress without a bound. Its memory is granted while it grows, twice over, because tonic
//! gathers it once more.
//!
//! Only a call that takes tiles may announce a message of `--max-body`. Every other message is a
//! few names, has a small bound of its own and needs no memory of the requests in flight: a caller
//! without a key cannot take that memory from those who have one. A call that takes one message
//! ends at the first byte of a second, which tonic would read and drop without end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::{Request as HttpRequest, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response as HttpResponse;
use bytes::Bytes;
use http_body::Frame;
use tokio::time::Sleep;
use tonic::{Request, Status};

use super::CALLS;
use super::status::status;
use crate::serve::admission::Permit;
use crate::serve::app::App;
use crate::serve::cache::Tenant;
use crate::serve::error::{Error, ErrorKind};
use crate::serve::middleware::Matched;
use crate::serve::middleware::route::{Permission, Route};
use crate::serve::pipeline::deadline_exceeded;
use crate::serve::transport::inflate::{Account, Encoding, Inflater};
use crate::serve::transport::read_body::malformed;

/// What the calls of gRPC say of compression: how the messages come, and what is read.
const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
const READ: HeaderValue = HeaderValue::from_static("identity,gzip,deflate");

/// A flag for compression, and the length in four bytes, big-endian.
const PREFIX: usize = 5;
/// Largest message of a call that needs no key: the name of a service or of a model.
const PUBLIC_MESSAGE: u64 = 1 << 10;
/// Largest message of a call that needs a key and takes no tiles.
const NAMES_MESSAGE: u64 = 64 << 10;
/// What a message costs at least, so that many small ones are not free.
const MESSAGE_COST: u64 = 1 << 10;
/// The flag of a compressed message.
const COMPRESSED: u8 = 1;
/// Memory of a message that is decompressed is granted in steps of so many bytes.
const GROWN_AT_ONCE: usize = 64 << 10;
/// How soon a stream that waits for memory asks again.
const AGAIN: Duration = Duration::from_millis(20);

/// The permits of a call's messages that the handler has not taken yet, in their order. A handler
/// finds it among the extensions of its request.
#[derive(Clone, Default)]
pub(crate) struct Messages(Arc<Mutex<VecDeque<Message>>>);

/// One message: the permit for its bytes, whose encodings it may use, and when its first byte came.
pub(crate) struct Message {
    pub permit: Arc<Permit>,
    pub tenant: Tenant,
    pub received: Instant,
}

impl Messages {
    /// Those of a call that takes tiles.
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        request
            .extensions()
            .get()
            .cloned()
            .expect("every call comes through `rpc::router`, which puts them there")
    }

    /// Of the next message that the handler has been given.
    ///
    /// # Panics
    /// When more messages are taken than were given.
    pub(crate) fn take(&self) -> Message {
        self.lock().pop_front().expect("a message is handed on only after its memory was granted")
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

/// How many messages a call may have, how large they may be, and what they are lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// One message with tiles: its memory is lent, or the call refused.
    Tiles { most: u64 },
    /// Many of them: each waits for its memory.
    TileStream { most: u64 },
    /// Messages without tiles: nothing is lent for them, and nothing kept.
    Names { most: u64, stream: bool },
}

impl Rule {
    fn of(path: &str, route: Option<&Route>, max_body: u64) -> Self {
        // Of `proto/`, whether its client streams; of the standard calls reflection alone does.
        let stream = CALLS.contains(&(path, true)) || path.ends_with("/ServerReflectionInfo");
        let is_public = route.is_none_or(|route| route.rules.permission == Permission::Public);
        // A call that takes tiles says so: it may miss them.
        let takes_tiles = route.is_some_and(|route| route.can_give(ErrorKind::NoTiles));
        match (takes_tiles && !is_public, stream) {
            (true, false) => Self::Tiles { most: max_body },
            (true, true) => Self::TileStream { most: max_body },
            (false, _) => {
                let most = if is_public { PUBLIC_MESSAGE } else { NAMES_MESSAGE };
                Self::Names { most: most.min(max_body), stream }
            }
        }
    }

    fn most(self) -> u64 {
        let (Self::Tiles { most } | Self::TileStream { most } | Self::Names { most, .. }) = self;
        most
    }

    fn is_stream(self) -> bool {
        matches!(self, Self::TileStream { .. } | Self::Names { stream: true, .. })
    }
}

/// Puts the body of a call into a [`MemoryLimitBody`], and the [`Messages`] among its extensions.
pub(super) async fn limit_memory(
    State(app): State<Arc<App>>,
    mut request: HttpRequest,
    next: Next,
) -> HttpResponse {
    let matched = request.extensions().get::<Matched>().and_then(|matched| matched.0.as_deref());
    let rule = Rule::of(request.uri().path(), matched, app.config.max_body.0);
    let messages = Messages::default();
    request.extensions_mut().insert(messages.clone());
    let tenant = request.extensions().get::<Tenant>().copied().unwrap_or_default();
    let given = request.headers().get_all(ENCODING).iter();
    let encoding = match Encoding::of(ENCODING, given.map(HeaderValue::as_bytes)) {
        Ok(encoding) => encoding,
        Err(error) => {
            let mut refused = status(error).into_http();
            refused.headers_mut().insert(ACCEPT_ENCODING, READ);
            return refused;
        }
    };
    // What tonic sees of a message is not compressed.
    request.headers_mut().remove(ENCODING);
    let request = request.map(|body| {
        let limited = MemoryLimitBody::new(body, app, rule, messages);
        Body::new(MemoryLimitBody { tenant, encoding, ..limited })
    });
    next.run(request).await
}

pub(super) struct MemoryLimitBody {
    body: Body,
    app: Arc<App>,
    rule: Rule,
    messages: Messages,
    tenant: Tenant,
    /// Of the messages whose flag says that they are compressed.
    encoding: Encoding,
    /// The present message, where it is compressed.
    inflater: Option<Inflater>,
    /// What came and has not been looked at.
    rest: Bytes,
    /// The first bytes of the message to come.
    prefix: Vec<u8>,
    /// Of the present message.
    missing: usize,
    /// Whether the first message was announced.
    begun: bool,
    /// When to ask for its memory again.
    again: Option<Pin<Box<Sleep>>>,
    /// When the present message began, and how long it may take.
    clock: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl MemoryLimitBody {
    /// The clock of the first message runs from now on.
    fn new(body: Body, app: Arc<App>, rule: Rule, messages: Messages) -> Self {
        let (rest, prefix) = (Bytes::new(), Vec::with_capacity(PREFIX));
        let mut limited = Self {
            body,
            app,
            rule,
            messages,
            tenant: Tenant::SHARED,
            encoding: Encoding::Identity,
            inflater: None,
            rest,
            prefix,
            missing: 0,
            begun: false,
            again: None,
            clock: None,
        };
        limited.start();
        limited
    }

    fn start(&mut self) {
        let now = Instant::now();
        let limit = self.app.config.request_timeout.0;
        self.clock
            .get_or_insert_with(|| (now, Box::pin(tokio::time::sleep_until((now + limit).into()))));
    }

    /// Looks at what came, up to the end of a prefix, of a message or of the bytes. Nothing when
    /// memory has to be waited for.
    fn look(&mut self) -> Result<Option<Bytes>, Error> {
        if self.missing > 0 {
            let piece = self.rest.split_to(self.missing.min(self.rest.len()));
            self.missing -= piece.len();
            self.clock.take_if(|_| self.rule.is_stream() && self.missing == 0);
            return self.inflate(piece).map(Some);
        }
        if self.rest.is_empty() {
            // Clients end a call with a frame of no bytes.
            return Ok(Some(Bytes::new()));
        }
        if self.begun && !self.rule.is_stream() {
            return Err(malformed("the call takes one message, and a second one came"));
        }
        self.start();
        let wanted = (PREFIX - self.prefix.len()).min(self.rest.len());
        self.prefix.extend_from_slice(&self.rest[..wanted]);
        let &[flag, a, b, c, d] = &self.prefix[..] else {
            // Of a compressed message the prefix is another, once its length is known.
            self.rest = self.rest.split_off(wanted);
            return Ok(Some(Bytes::new()));
        };
        let bytes = u32::from_be_bytes([a, b, c, d]);
        if !self.begin(bytes)? {
            self.prefix.truncate(PREFIX - wanted);
            return Ok(None);
        }
        self.rest = self.rest.split_off(wanted);
        let prefix = Bytes::from(std::mem::take(&mut self.prefix));
        (self.missing, self.begun) = (bytes as usize, true);
        self.clock.take_if(|_| self.rule.is_stream() && bytes == 0);
        if flag == COMPRESSED && self.encoding != Encoding::Identity {
            self.inflater = Some(self.start_inflating(bytes as usize));
            return self.inflate(Bytes::new()).map(Some);
        }
        Ok(Some(prefix))
    }

    /// Decompresses a piece of a message, where it is compressed: nothing, until all of it came.
    fn inflate(&mut self, piece: Bytes) -> Result<Bytes, Error> {
        let Some(inflater) = &mut self.inflater else { return Ok(piece) };
        inflater.feed(&piece)?;
        let ended = self.inflater.take_if(|_| self.missing == 0);
        let Some(ended) = ended else { return Ok(Bytes::new()) };
        let mut message = ended.finish()?;
        let length = u32::try_from(message.len() - PREFIX).expect("a body's limit is below 4 GiB");
        message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        Ok(message.freeze())
    }

    /// For a message of so many compressed bytes, whose memory is granted.
    fn start_inflating(&self, compressed: usize) -> Inflater {
        let most = usize::try_from(self.rule.most().min(u32::MAX.into())).unwrap_or(usize::MAX);
        let lent = (compressed as u64).max(MESSAGE_COST);
        let permit = self.messages.lock().back().map(|message| Arc::clone(&message.permit));
        let account: Account = match (self.rule, permit) {
            (Rule::Names { .. }, _) | (_, None) => Box::new(|_| Ok(())),
            (_, Some(permit)) => {
                let mut lent = lent;
                Box::new(move |whole| {
                    let wanted = 2 * whole.next_multiple_of(GROWN_AT_ONCE).min(most) as u64;
                    let more = wanted.saturating_sub(lent);
                    lent += more;
                    if more == 0 { Ok(()) } else { permit.grow(more) }
                })
            }
        };
        Inflater::new(self.encoding, &[0; PREFIX], most, account)
    }

    /// Admits a message of so many bytes; false when its memory has to be waited for.
    fn begin(&self, bytes: u32) -> Result<bool, Error> {
        let (bytes, most) = (u64::from(bytes), self.rule.most());
        if bytes > most {
            let detail = format!("the message has {bytes} bytes, and the limit is {most}");
            let detail = match self.rule {
                Rule::Names { .. } => detail,
                _ => format!("{detail}: send fewer tiles at once"),
            };
            return Err(Error::new(ErrorKind::BodyTooLarge, detail));
        }
        let admission = &self.app.admission;
        let permit = match self.rule {
            Rule::Names { .. } => return Ok(true),
            Rule::Tiles { .. } => admission.admit_body(bytes.max(MESSAGE_COST))?,
            Rule::TileStream { .. } => match admission.body_if_free(bytes.max(MESSAGE_COST)) {
                Err(error) if error.kind == ErrorKind::Overloaded => return Ok(false),
                lent => lent?,
            },
        };
        let received = self.clock.as_ref().map_or_else(Instant::now, |(began, _)| *began);
        self.messages.lock().push_back(Message { permit, tenant: self.tenant, received });
        Ok(true)
    }
}

impl HttpBody for MemoryLimitBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some((_, sleep)) = &mut self.clock
            && sleep.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(status(deadline_exceeded(
                self.app.config.request_timeout.0,
            )))));
        }
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(Status::cancelled(format!(
                        "the call ended early: {error}"
                    )))));
                }
                // tonic has seen nothing of it.
                None if self.inflater.is_some() || !self.prefix.is_empty() => {
                    self.inflater = None;
                    self.prefix.clear();
                    let error = malformed("the call ended within a message");
                    return Poll::Ready(Some(Err(status(error))));
                }
                None => return Poll::Ready(None),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        loop {
            if let Some(again) = &mut self.again {
                ready!(again.as_mut().poll(cx));
                self.again = None;
            }
            match self.look().transpose() {
                Some(piece) => return Poll::Ready(Some(piece.map(Frame::data).map_err(status))),
                None => self.again = Some(Box::pin(tokio::time::sleep(AGAIN))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}
