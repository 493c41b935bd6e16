//! Terminals: the shim's side of a pseudo-terminal whose other side is a process's three streams.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{LocalFlags, SpecialCharacterIndices, tcgetattr};
use oci_spec::runtime::Process;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::input::pump;
use super::output::{Sink, copy};
use crate::fault::{Fault, Result};

nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, libc::winsize);

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

impl Size {
    /// The size that a process is to begin with, if it says one.
    pub fn of(process: &Process) -> Option<Self> {
        let size = process.console_size()?;
        Some(Self {
            width: u16::try_from(size.width()).ok()?,
            height: u16::try_from(size.height()).ok()?,
        })
    }

    /// Sets the size of the terminal behind `fd`; either side will do.
    pub fn apply(self, fd: &OwnedFd) -> nix::Result<()> {
        let size = libc::winsize {
            ws_row: self.height,
            ws_col: self.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: `size` is a valid winsize for the length of the call, which only reads it.
        unsafe { set_size(fd.as_raw_fd(), &size) }.map(drop)
    }
}

/// A terminal, and before there is one the streams that it will be connected to.
#[derive(Debug)]
pub struct Console {
    waiting: Option<(Option<pipe::Receiver>, Sink)>,
    master: Option<Arc<AsyncFd<OwnedFd>>>,
}

/// What works for a connected terminal.
pub struct Connected {
    /// Copies its output; ends when every process has closed the terminal.
    pub output: Option<JoinHandle<()>>,
    /// Ends its input.
    pub input: Option<watch::Sender<bool>>,
}

impl Console {
    /// Streams that wait for a terminal.
    pub fn new(input: Option<pipe::Receiver>, output: Sink) -> Self {
        Self {
            waiting: Some((input, output)),
            master: None,
        }
    }

    /// Begins to copy between the terminal and the streams.
    pub fn connect(&mut self, master: OwnedFd) -> io::Result<Connected> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        // SAFETY: the descriptor is open, and owned by what is registered for as long as it is.
        let master = Arc::new(unsafe { AsyncFd::register(master) }?);
        self.master = Some(Arc::clone(&master));
        let Some((input, sink)) = self.waiting.take() else {
            return Ok(Connected {
                output: None,
                input: None,
            });
        };
        let output = tokio::spawn(copy(Master(Arc::clone(&master)), sink));
        let input = input.map(|fifo| {
            let (closer, closed) = watch::channel(false);
            tokio::spawn(type_in(fifo, closed, master));
            closer
        });
        Ok(Connected {
            output: Some(output),
            input,
        })
    }

    /// Changes its size; the foreground processes get SIGWINCH.
    pub fn resize(&self, size: Size) -> Result<()> {
        let Some(master) = &self.master else {
            return Ok(());
        };
        size.apply(master.get_ref())
            .map_err(|errno| Fault::internal(format!("cannot resize the terminal: {errno}")))
    }
}

/// Types in what comes from the FIFO, and at its end what a person would.
async fn type_in(fifo: pipe::Receiver, closed: watch::Receiver<bool>, master: Arc<AsyncFd<OwnedFd>>) {
    let keyboard = Keyboard {
        master,
        line_begun: false,
    };
    let mut keyboard = pump(fifo, closed, keyboard).await;
    if let Some(end) = end_of_file(keyboard.master.get_ref(), keyboard.line_begun) {
        let _ = keyboard.write_all(&end).await;
    }
}

/// The keys that mean the end of input: once at the beginning of a line, twice within one. A program that reads single
/// keys has its own idea of an end, so there it is nothing. Source: termios(3), VEOF and ICANON.
fn end_of_file(master: &OwnedFd, line_begun: bool) -> Option<Vec<u8>> {
    let settings = tcgetattr(master).ok()?;
    if !settings.local_flags.contains(LocalFlags::ICANON) {
        return None;
    }
    let key = settings.control_chars[SpecialCharacterIndices::VEOF as usize];
    Some(vec![key; if line_begun { 2 } else { 1 }])
}

/// The writing side.
struct Keyboard {
    master: Arc<AsyncFd<OwnedFd>>,
    line_begun: bool,
}

impl AsyncWrite for Keyboard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.master.poll_write_ready(context))?;
            match guard.try_io(|fd| nix::unistd::write(fd.get_ref(), bytes).map_err(io::Error::from)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Ok(Ok(length)) => {
                    drop(guard);
                    self.line_begun = !matches!(bytes[..length].last(), Some(b'\n' | b'\r'));
                    return Poll::Ready(Ok(length));
                }
                // No room after all.
                Err(_) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The reading side. The kernel answers EIO, after all output, once no process has the terminal open any more.
struct Master(Arc<AsyncFd<OwnedFd>>);

impl AsyncRead for Master {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            match guard.try_io(|fd| nix::unistd::read(fd.get_ref(), room).map_err(io::Error::from)) {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::EIO as i32) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                // Not ready after all.
                Err(_) => {}
            }
        }
    }
}
