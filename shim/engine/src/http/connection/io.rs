//! A connection's socket, which notes what its client does.

use super::Connection;
use super::exchange::Wait;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a socket has seen. Kept apart from it, so that others may look.
#[derive(Default)]
pub(super) struct Traffic {
    /// Since when there are bytes of a request that has not begun.
    pub(super) head: Wait,
    /// Since when the client does not take what is to be written.
    pub(super) writing: Wait,
    /// Bytes of [`PREFACE`] so far; past it where the connection speaks HTTP/1.
    preface: AtomicUsize,
    /// Whether to break off rather than to close.
    reset: AtomicBool,
}

impl Traffic {
    /// Whether the client has sent anything yet.
    pub(super) fn has_begun(&self) -> bool {
        self.preface.load(Ordering::Relaxed) != 0
    }

    /// Whether the whole preface of HTTP/2 has come.
    pub(super) fn is_http2(&self) -> bool {
        self.preface.load(Ordering::Relaxed) == PREFACE.len()
    }

    /// What the kernel still holds for the client is thrown away when the socket closes.
    pub(super) fn reset_on_close(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    fn came(&self, bytes: &[u8]) {
        self.head.begin();
        let known = self.preface.load(Ordering::Relaxed);
        if known < PREFACE.len() {
            let expected = &PREFACE[known..];
            let length = bytes.len().min(expected.len());
            let now = if bytes[..length] == expected[..length] {
                known + length
            } else {
                PREFACE.len() + 1
            };
            self.preface.store(now, Ordering::Relaxed);
        }
    }
}

/// The socket of a connection.
pub(super) struct Watched {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
    }

    fn note_write(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let writing = &self.connection.traffic.writing;
        match &result {
            Poll::Pending => writing.begin(),
            Poll::Ready(Ok(bytes)) => writing.moved(*bytes, self.connection.enough_bytes()),
            Poll::Ready(Err(_)) => {}
        }
        result
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let new = &buf.filled()[before..];
        if !new.is_empty() {
            self.connection.traffic.came(new);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.connection.traffic.reset.load(Ordering::Relaxed) {
            // Where it fails the kernel keeps the bytes for a while.
            let _ = self.stream.set_zero_linger();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_2_is_known_by_its_whole_preface_however_it_comes() {
        let whole = Traffic::default();
        assert!(!whole.has_begun());
        whole.came(&[PREFACE, b"more"].concat());
        assert!(whole.is_http2());
        let bytewise = Traffic::default();
        for byte in PREFACE {
            assert!(!bytewise.is_http2());
            bytewise.came(std::slice::from_ref(byte));
            assert!(bytewise.has_begun());
        }
        assert!(bytewise.is_http2());
    }

    #[test]
    fn what_only_begins_like_the_preface_is_not_http_2() {
        let traffic = Traffic::default();
        traffic.came(b"PRI * HTTP/1.1\r\n");
        traffic.came(PREFACE);
        assert!(traffic.has_begun() && !traffic.is_http2());
    }
}
