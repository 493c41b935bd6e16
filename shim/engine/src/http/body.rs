//! The body of a response, which ends the way its guest did.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// Set when the guest failed, before its end of the body is dropped.
pub(super) type Failed = Arc<AtomicBool>;

/// A body that breaks off where its guest failed.
///
/// Wasmtime's own ends as if it were complete when the guest is gone, so that a client would take half a document for a
/// whole one. It cannot be told whether a guest that failed after its last byte had finished the body, so that counts as
/// broken off too.
pub(super) struct ResponseBody {
    inner: HyperOutgoingBody,
    failed: Option<Failed>,
}

impl ResponseBody {
    pub(super) fn of_guest(inner: HyperOutgoingBody, failed: Failed) -> Self {
        Self {
            inner,
            failed: Some(failed),
        }
    }

    pub(super) fn of_text(text: &str) -> Self {
        let inner = Full::new(Bytes::copy_from_slice(text.as_bytes()));
        Self {
            inner: inner.map_err(|never| match never {}).boxed_unsync(),
            failed: None,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let failed = |failed: &Failed| failed.load(Ordering::Acquire);
        Poll::Ready(match frame {
            Some(frame) => Some(frame.map_err(BodyError::Guest)),
            None if self.failed.as_ref().is_some_and(failed) => Some(Err(BodyError::Incomplete)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the guest aborted the body: {0}")]
    Guest(wasmtime_wasi_http::Error),
    #[error("the guest failed before the end of the body")]
    Incomplete,
}
