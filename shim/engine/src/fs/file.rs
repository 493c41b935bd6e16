//! Open files and the standard streams: reading, writing, waiting.

use super::{OpenHow, Result};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, OFlags, SeekFrom, Stat, Timestamps};
use rustix::io::Errno;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// A file, FIFO or device that a guest has open.
#[derive(Debug)]
pub(crate) struct File {
    fd: OwnedFd,
    kind: FileType,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Whether the guest asked for errors instead of waiting. The descriptor itself is non-blocking, but for pipes of
    /// commands.
    nonblock: AtomicBool,
}

/// One of the three descriptors that the process has from its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

/// Where a read or write happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    /// At the descriptor's own position, which moves on.
    Position,
    Offset(u64),
}

impl File {
    pub(super) fn new(fd: OwnedFd, kind: FileType, how: OpenHow) -> Self {
        Self {
            fd,
            kind,
            readable: how.read || !how.write,
            writable: how.write,
            nonblock: AtomicBool::new(how.nonblock),
        }
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    /// Whether it has another end, which reading and writing wait for, and no positions. The devices that a guest may
    /// have are no pipes: they answer at once.
    pub(crate) fn is_pipe(&self) -> bool {
        self.kind == FileType::Fifo
    }

    pub(crate) fn read(&self, buffer: &mut [u8], at: At) -> Result<usize> {
        wait_while_full(&self.fd, PollFlags::IN, self.is_nonblocking(), || match at {
            At::Position => rustix::io::read(&self.fd, &mut *buffer),
            At::Offset(offset) => rustix::io::pread(&self.fd, &mut *buffer, offset),
        })
    }

    pub(crate) fn write(&self, buffers: &[IoSlice<'_>], at: At) -> Result<usize> {
        wait_while_full(&self.fd, PollFlags::OUT, self.is_nonblocking(), || match at {
            At::Position => rustix::io::writev(&self.fd, buffers),
            At::Offset(offset) => rustix::io::pwritev(&self.fd, buffers, offset),
        })
    }

    /// Adds to the end, whatever the position.
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<usize> {
        let buffers = [IoSlice::new(bytes)];
        wait_while_full(&self.fd, PollFlags::OUT, self.is_nonblocking(), || {
            // `u64::MAX` is the offset -1: the position, which RWF_APPEND then replaces by the end.
            rustix::io::pwritev2(&self.fd, &buffers, u64::MAX, rustix::io::ReadWriteFlags::APPEND)
        })
    }

    pub(crate) fn seek(&self, to: SeekFrom) -> Result<u64> {
        rustix::fs::seek(&self.fd, to)
    }

    pub(crate) fn stat(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd)
    }

    pub(crate) fn set_size(&self, size: u64) -> Result<()> {
        rustix::fs::ftruncate(&self.fd, size)
    }

    pub(crate) fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        rustix::fs::fallocate(&self.fd, rustix::fs::FallocateFlags::empty(), offset, len)
    }

    pub(crate) fn advise(&self, offset: u64, len: u64, advice: rustix::fs::Advice) -> Result<()> {
        rustix::fs::fadvise(&self.fd, offset, std::num::NonZeroU64::new(len), advice)
    }

    pub(crate) fn set_times(&self, times: &Timestamps) -> Result<()> {
        rustix::fs::futimens(&self.fd, times)
    }

    pub(crate) fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd)
    }

    pub(crate) fn sync_data(&self) -> Result<()> {
        rustix::fs::fdatasync(&self.fd)
    }

    /// The status flags that the kernel keeps, such as `O_APPEND`.
    pub(crate) fn status(&self) -> Result<OFlags> {
        rustix::fs::fcntl_getfl(&self.fd)
    }

    pub(crate) fn is_nonblocking(&self) -> bool {
        self.nonblock.load(Ordering::Relaxed)
    }

    /// Sets what can be set of an open file.
    pub(crate) fn set_status(&self, append: bool, nonblock: bool) -> Result<()> {
        let mut flags = self.status()?;
        flags.set(OFlags::APPEND, append);
        rustix::fs::fcntl_setfl(&self.fd, flags)?;
        self.nonblock.store(nonblock, Ordering::Relaxed);
        Ok(())
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Stream {
    pub(crate) fn is_terminal(self) -> bool {
        std::io::IsTerminal::is_terminal(&self.as_fd())
    }

    pub(crate) fn stat(self) -> Result<Stat> {
        rustix::fs::fstat(self.as_fd())
    }

    pub(crate) fn read(self, buffer: &mut [u8], nonblock: bool) -> Result<usize> {
        // The descriptor's flags belong to all who share it, so that the guest's wish is kept apart from them.
        if nonblock && !is_ready(self.as_fd(), PollFlags::IN)? {
            return Err(Errno::AGAIN);
        }
        wait_while_full(self.as_fd(), PollFlags::IN, nonblock, || {
            rustix::io::read(self.as_fd(), &mut *buffer)
        })
    }

    pub(crate) fn write(self, buffers: &[IoSlice<'_>], nonblock: bool) -> Result<usize> {
        if nonblock && !is_ready(self.as_fd(), PollFlags::OUT)? {
            return Err(Errno::AGAIN);
        }
        wait_while_full(self.as_fd(), PollFlags::OUT, nonblock, || {
            rustix::io::writev(self.as_fd(), buffers)
        })
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let number = match self {
            Stream::Stdin => libc::STDIN_FILENO,
            Stream::Stdout => libc::STDOUT_FILENO,
            Stream::Stderr => libc::STDERR_FILENO,
        };
        // SAFETY: a process has its three streams for as long as it runs. Where it was started without one of them the
        // number stands for nothing or for a file of the guest, and the worst that follows is an error or a use of that.
        unsafe { BorrowedFd::borrow_raw(number) }
    }
}

/// Calls `operate` until the descriptor, which never waits by itself, has done something.
fn wait_while_full<T>(
    fd: impl AsFd,
    event: PollFlags,
    nonblock: bool,
    mut operate: impl FnMut() -> Result<T>,
) -> Result<T> {
    loop {
        match operate() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !nonblock => wait(fd.as_fd(), event)?,
            result => return result,
        }
    }
}

/// Waits for the event, or for the other end to go.
fn wait(fd: BorrowedFd<'_>, event: PollFlags) -> Result<()> {
    let mut polls = [PollFd::new(&fd, event)];
    match rustix::event::poll(&mut polls, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the event has happened already.
fn is_ready(fd: BorrowedFd<'_>, event: PollFlags) -> Result<bool> {
    let mut polls = [PollFd::new(&fd, event)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(rustix::event::poll(&mut polls, Some(&now))? > 0)
}
