//! Response body that keeps its admission permits until it is fully written.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::serve::admission::Permit;

/// Bytes handed over at once: the connection asks for more when it has sent about so much.
const FRAME_BYTES: usize = 256 << 10;

/// Pieces of memory, sent one after the other as one body of known length.
pub struct PermitBody {
    pieces: VecDeque<Bytes>,
    _permits: Vec<Arc<Permit>>,
}

impl PermitBody {
    pub fn new(pieces: impl IntoIterator<Item = Bytes>, permits: Vec<Arc<Permit>>) -> Self {
        Self {
            pieces: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(),
            _permits: permits,
        }
    }
}

impl HttpBody for PermitBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(piece) = self.pieces.front_mut() else { return Poll::Ready(None) };
        let size = piece.len().min(FRAME_BYTES);
        let frame = piece.split_to(size);
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
    }
}
