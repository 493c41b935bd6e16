//! The files that a guest sees: the container's root, as any process confined to it would see it.
//!
//! [`View`] is the root. Everything is reached from it, or from a [`Dir`] below it, by descriptor:
//!
//! * **A path means what it means to a process of the container** ([`resolve`]). Absolute links and `..` lead to the
//!   container's root, wherever the path starts, and never above it. No path goes by way of `/proc`, which need not be
//!   there.
//! * **A guest is given files, not the kernel** ([`admit`]). Objects of proc, sysfs, devpts, cgroups and their like are
//!   refused, and all devices but `null`, `zero`, `full`, `random` and `urandom`. `/proc/self/mem` would lead out of
//!   WebAssembly. The object itself is asked where it belongs, so that it does not matter by which path, mount or volume
//!   it was reached.
//! * **The standard streams have names**: `/dev/stdin`, `/dev/stdout`, `/dev/stderr`, `/dev/fd/N` and
//!   `/proc/self/fd/N` with N up to 2 are the guest's own streams.
//!
//! Errors are the kernel's ([`Errno`]); [`errno`] has their names in WASI.

mod admit;
mod change;
pub(crate) mod errno;
mod file;
mod listing;
mod open;
mod resolve;

pub(crate) use self::file::{At, File, Stream};
pub(crate) use self::listing::{Entry, Lister};
pub(crate) use self::open::OpenHow;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};

pub(crate) type Result<T> = std::result::Result<T, Errno>;

/// The container's root, and how files below it are opened.
#[derive(Debug)]
pub(crate) struct View {
    root: Arc<OwnedFd>,
    /// Whether an operation may wait as long as it likes: a command waits like any program, while a server has other
    /// requests that wait with it.
    patient: bool,
}

/// Something that a guest has open.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Dir(Arc<Dir>),
    File(Arc<File>),
    Stream(Stream),
}

/// A directory that a guest has open.
#[derive(Debug)]
pub(crate) struct Dir {
    /// Of the root it is a mere place (`O_PATH`): its user may be allowed to pass through it without listing it.
    fd: Arc<OwnedFd>,
    is_root: bool,
    /// The root, opened for listing when that is first asked for.
    listed: OnceLock<OwnedFd>,
}

/// How many names the object has.
#[allow(clippy::useless_conversion, reason = "the field has 32 bits on some architectures")]
pub(crate) fn links(stat: &Stat) -> u64 {
    u64::from(stat.st_nlink)
}

impl View {
    /// The view of a process whose files are below `root`, which is `/` but in tests.
    pub(crate) fn new(root: &Path, patient: bool) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
        admit::file_system(&root)?;
        Ok(Self {
            root: Arc::new(root),
            patient,
        })
    }

    /// The root as a directory to start from.
    pub(crate) fn root(&self) -> Dir {
        Dir {
            fd: Arc::clone(&self.root),
            is_root: true,
            listed: OnceLock::new(),
        }
    }

    /// Whether operations may block the calling thread for as long as they like.
    pub(crate) fn is_patient(&self) -> bool {
        self.patient
    }
}

impl Dir {
    fn opened(fd: OwnedFd) -> Self {
        Self {
            fd: Arc::new(fd),
            is_root: false,
            listed: OnceLock::new(),
        }
    }

    /// A descriptor that can be read and synchronised.
    fn readable(&self) -> Result<&OwnedFd> {
        if !self.is_root {
            return Ok(&self.fd);
        }
        if let Some(fd) = self.listed.get() {
            return Ok(fd);
        }
        let fd = self.reopened()?;
        Ok(self.listed.get_or_init(|| fd))
    }

    /// The directory once more, with a position of its own.
    fn reopened(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, ".", flags, Mode::empty())
    }

    pub(crate) fn stat(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd)
    }

    pub(crate) fn set_times(&self, times: &rustix::fs::Timestamps) -> Result<()> {
        rustix::fs::utimensat(&self.fd, ".", times, AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(crate) fn sync(&self) -> Result<()> {
        rustix::fs::fsync(self.readable()?)
    }
}

impl Node {
    pub(crate) fn stat(&self) -> Result<Stat> {
        match self {
            Node::Dir(dir) => dir.stat(),
            Node::File(file) => file.stat(),
            Node::Stream(stream) => stream.stat(),
        }
    }

    pub(crate) fn set_times(&self, times: &rustix::fs::Timestamps) -> Result<()> {
        match self {
            Node::Dir(dir) => dir.set_times(times),
            Node::File(file) => file.set_times(times),
            Node::Stream(_) => Err(Errno::BADF),
        }
    }

    /// Writes to the disk what is not there yet; of the contents only if `data_only`.
    pub(crate) fn sync(&self, data_only: bool) -> Result<()> {
        match self {
            Node::Dir(dir) => dir.sync(),
            Node::File(file) if data_only => file.sync_data(),
            Node::File(file) => file.sync(),
            Node::Stream(_) => Err(Errno::INVAL),
        }
    }

    /// As a directory, to look something up in it.
    pub(crate) fn dir(&self) -> Result<&Arc<Dir>> {
        match self {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) | Node::Stream(_) => Err(Errno::NOTDIR),
        }
    }
}

#[cfg(test)]
mod tests;
