//! The guest's stdout and stderr: file descriptors 1 and 2, written to at once.
//!
//! Rust's own `Stdout` holds back what does not end with a newline, which would be lost when a signal or a trap ends
//! the process. A guest has buffered by itself whatever it wanted buffered.

use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// Bytes that one write may take: large enough that a guest's buffer goes out in one piece.
const WRITE_SIZE: usize = 64 * 1024;

/// One of the two output streams of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

impl Output {
    fn raw_fd(self) -> RawFd {
        match self {
            Output::Stdout => libc::STDOUT_FILENO,
            Output::Stderr => libc::STDERR_FILENO,
        }
    }

    /// Writes all of `bytes`, waiting where a non-blocking descriptor is full.
    pub(crate) fn write_all(self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.write_some(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_writable(self.raw_fd())?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_some(self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the descriptor stays open, because `ManuallyDrop` keeps the `File` from closing it. Where the
        // process was started without it, the write fails with EBADF.
        let file = ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(self.raw_fd()) });
        io::Write::write(&mut &*file, bytes)
    }
}

/// The descriptor may have been opened non-blocking by whoever made it: its flags belong to all who share it.
fn wait_writable(fd: RawFd) -> io::Result<()> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: `poll` is one valid pollfd for the length of the call.
    if unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(())
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        // SAFETY: the descriptor is only asked about, within this statement.
        std::io::IsTerminal::is_terminal(&unsafe { BorrowedFd::borrow_raw(self.raw_fd()) })
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(*self)
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(*self)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write_all(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.write_all(&bytes).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => StreamError::Closed,
            _ => StreamError::LastOperationFailed(error.into()),
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_SIZE)
    }
}
