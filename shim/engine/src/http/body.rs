//! The bodies of a request and its answer.

use super::connection::{Attached, Exchange};
use super::limits::limit;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// What is handed out at once to a client of HTTP/2, whose window tells how much of it was taken: a frame of the size
/// that all clients take.
const STREAM_FRAME: usize = 16 * 1024;

/// A request's body, which fails where its client keeps the guest waiting for too long.
pub(super) struct RequestBody {
    inner: Incoming,
    exchange: Arc<Exchange>,
    timeout: Duration,
    enough_bytes: u64,
    /// Rings when the client's time is over, or before: it is set again only when it rings.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, attached: &Attached, timeout: Duration) -> Self {
        Self {
            inner,
            exchange: Arc::clone(attached.exchange()),
            timeout,
            enough_bytes: attached.enough_bytes(),
            alarm: None,
        }
    }

    /// Waits for the end of the client's time.
    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(timeout) = limit(self.timeout) else {
            return Poll::Pending;
        };
        loop {
            let waited = self.exchange.reading.waited(Instant::now()).unwrap_or_default();
            if waited >= timeout {
                return Poll::Ready(());
            }
            let rest = timeout - waited;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(rest)));
            ready!(alarm.as_mut().poll(cx));
            alarm.as_mut().reset(tokio::time::Instant::now() + rest);
            ready!(alarm.as_mut().poll(cx));
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            self.exchange.reading.begin();
            ready!(self.poll_alarm(cx));
            self.exchange.reading.end();
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.exchange.reading.moved(bytes, self.enough_bytes);
            }
            Some(Err(_)) | None => self.exchange.reading.end(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.exchange.reading.end();
    }
}

/// The body of an answer, which breaks off where its guest failed.
///
/// Wasmtime's own ends as if it were complete when the guest is gone, so that a client would take half a document for a
/// whole one. It cannot be told whether a guest that failed after its last byte had finished the body, so that counts as
/// broken off too.
pub(super) struct ResponseBody {
    inner: HyperOutgoingBody,
    attached: Attached,
    of_guest: bool,
    /// What is left of the length that the head announces; hyper does not ask for an end after that.
    announced: Option<u64>,
    /// The rest of what came, if it is more than a client of HTTP/2 may be sent at once.
    rest: Bytes,
    /// Bytes that were handed out last, and that the client may not have taken yet.
    handed_out: usize,
}

impl ResponseBody {
    /// The body of a guest's answer; `announced` is its length where its head has one.
    pub(super) fn of_guest(inner: HyperOutgoingBody, announced: Option<u64>, attached: Attached) -> Self {
        Self::new(inner, true, announced, attached)
    }

    pub(super) fn of_text(text: &str, attached: Attached) -> Self {
        let inner = Full::new(Bytes::copy_from_slice(text.as_bytes()));
        let inner = inner.map_err(|never| match never {}).boxed_unsync();
        Self::new(inner, false, Some(text.len() as u64), attached)
    }

    fn new(inner: HyperOutgoingBody, of_guest: bool, announced: Option<u64>, attached: Attached) -> Self {
        if announced == Some(0) {
            attached.exchange().answered();
        }
        Self {
            inner,
            attached,
            of_guest,
            announced,
            rest: Bytes::new(),
            handed_out: 0,
        }
    }

    fn hand_out(&mut self, mut bytes: Bytes) -> Bytes {
        let exchange = self.attached.exchange();
        if exchange.is_stream() {
            self.rest = bytes.split_off(bytes.len().min(STREAM_FRAME));
            self.handed_out = bytes.len();
            exchange.writing.begin();
        }
        if let Some(announced) = &mut self.announced {
            *announced = announced.saturating_sub(bytes.len() as u64);
            if *announced == 0 {
                exchange.answered();
            }
        }
        bytes
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Hyper comes back when there is room for more.
        let taken = std::mem::take(&mut self.handed_out);
        if taken > 0 {
            let enough = self.attached.enough_bytes();
            self.attached.exchange().writing.moved(taken, enough);
        }
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Some(Ok(Frame::data(self.hand_out(rest)))));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(match frame.into_data() {
                Ok(bytes) => Frame::data(self.hand_out(bytes)),
                // Trailers, which are the end.
                Err(frame) => {
                    self.attached.exchange().answered();
                    frame
                }
            })),
            Some(Err(error)) => Some(Err(BodyError::Guest(error))),
            None if self.of_guest && self.attached.exchange().has_failed() => Some(Err(BodyError::Incomplete)),
            None => {
                self.attached.exchange().answered();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() {
            self.inner.size_hint()
        } else {
            SizeHint::default()
        }
    }
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the guest aborted the body: {0}")]
    Guest(Error),
    #[error("the guest failed before the end of the body")]
    Incomplete,
}
