//! One keep-alive connection to the server through hyper's client, without pool, redirects or
//! retries, so that the measurements are of the server.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::target::Target;
use super::tls::server_name;

pub(crate) struct Connection {
    sender: SendRequest<Frames>,
    authorization: Option<HeaderValue>,
}

impl Connection {
    /// # Errors
    /// When the connection is refused, or the server's certificate is not trusted.
    pub(crate) async fn open(target: &Target) -> std::io::Result<Self> {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
        // The last packet of a request is not to wait for the first acknowledgement.
        stream.set_nodelay(true)?;
        let sender = match &target.tls {
            None => begin(stream).await?,
            Some(config) => {
                let name = server_name(&target.host)?;
                begin(TlsConnector::from(config.clone()).connect(name, stream).await?).await?
            }
        };
        Ok(Self { sender, authorization: target.authorization.as_deref().cloned() })
    }

    /// Sends a request and returns the head of the response. The connection is free again when the
    /// body has been read.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Frames>,
    ) -> hyper::Result<Response<Incoming>> {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        self.sender.send_request(request).await
    }

    /// Returns whether the connection can take another request.
    pub(crate) async fn is_free(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }
}

/// Begins HTTP on a stream.
async fn begin(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> std::io::Result<SendRequest<Frames>> {
    let handshake = Builder::new().handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(std::io::Error::other)?;
    tokio::spawn(async move {
        // Those who wait for an answer on it learn how it ended.
        let _ = connection.await;
    });
    Ok(sender)
}

/// A request body of several byte strings, with a known length.
pub(crate) struct Frames {
    rest: VecDeque<Bytes>,
    length: u64,
}

impl From<Vec<Bytes>> for Frames {
    fn from(frames: Vec<Bytes>) -> Self {
        Self { length: frames.iter().map(|frame| frame.len() as u64).sum(), rest: frames.into() }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.rest.pop_front();
        self.length -= next.as_ref().map_or(0, |frame| frame.remaining() as u64);
        Poll::Ready(next.map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
