//! Opening, and asking about objects by path.

use super::resolve::{LastLink, Located, Place};
use super::{Dir, File, Node, Result, View, admit};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::sync::Arc;

/// How often an object may be replaced between being looked at and being opened before that is the answer.
const ATTEMPTS: usize = 16;

/// How a file is to be opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenHow {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) create: bool,
    pub(crate) exclusive: bool,
    pub(crate) truncate: bool,
    pub(crate) directory: bool,
    pub(crate) nonblock: bool,
    /// Of `O_APPEND`, `O_DSYNC`, `O_SYNC`, `O_RSYNC`: what is passed on as it is.
    pub(crate) status: OFlags,
}

impl Default for OpenHow {
    fn default() -> Self {
        Self {
            read: false,
            write: false,
            create: false,
            exclusive: false,
            truncate: false,
            directory: false,
            nonblock: false,
            status: OFlags::empty(),
        }
    }
}

impl OpenHow {
    fn access(self) -> OFlags {
        match (self.read, self.write) {
            (true, true) => OFlags::RDWR,
            (false, true) => OFlags::WRONLY,
            (_, false) => OFlags::RDONLY,
        }
    }

    fn flags(self) -> OFlags {
        let fixed = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
        fixed | self.access() | self.status
    }
}

impl View {
    /// Opens what `path` names, seen from `dir`.
    pub(crate) fn open(&self, dir: &Dir, path: &[u8], follow: bool, how: OpenHow) -> Result<Node> {
        if how.create && how.directory {
            return Err(Errno::INVAL);
        }
        let last = LastLink::followed_if(follow && !(how.create && how.exclusive));
        match self.locate(dir, path, last)? {
            Located::Stream(_) if how.directory => Err(Errno::NOTDIR),
            Located::Stream(_) if how.create && how.exclusive => Err(Errno::EXIST),
            Located::Stream(stream) => Ok(Node::Stream(stream)),
            Located::Place(place) => self.open_place(&place, how),
        }
    }

    fn open_place(&self, place: &Place, how: OpenHow) -> Result<Node> {
        for _ in 0..ATTEMPTS {
            let opened = match place.look() {
                Ok((_, stat)) => self.open_existing(place, &stat, how)?,
                Err(Errno::NOENT) if how.create => Self::create(place, how)?,
                Err(error) => return Err(error),
            };
            if let Some(node) = opened {
                return Ok(node);
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens the object that was looked at; none where another has taken its place.
    fn open_existing(&self, place: &Place, seen: &Stat, how: OpenHow) -> Result<Option<Node>> {
        let kind = FileType::from_raw_mode(seen.st_mode);
        if how.create && how.exclusive {
            return Err(Errno::EXIST);
        }
        let flags = match kind {
            FileType::Symlink => return Err(Errno::LOOP),
            FileType::Directory if (how.write && !how.directory) || how.create || how.truncate => {
                return Err(Errno::ISDIR);
            }
            FileType::Directory => OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            _ if how.directory => return Err(Errno::NOTDIR),
            // The other end may never come. A command waits for it as any program does, and a signal ends it.
            FileType::Fifo if self.patient && !how.nonblock => how.flags(),
            _ if how.truncate => how.flags() | OFlags::NONBLOCK | OFlags::TRUNC,
            _ => how.flags() | OFlags::NONBLOCK,
        };
        let fd = match rustix::fs::openat(&place.parent, place.name()?, flags, Mode::empty()) {
            Ok(fd) => fd,
            // It was removed, or replaced by a link.
            Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = admit::object(&fd)?;
        if (stat.st_dev, stat.st_ino) != (seen.st_dev, seen.st_ino) {
            return Ok(None);
        }
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Node::Dir(Arc::new(Dir::opened(fd))),
            kind => {
                // A server is told that there is nothing to read yet: waiting for it would hold up a thread of its few.
                let nonblock = how.nonblock || (kind == FileType::Fifo && !self.patient);
                Node::File(Arc::new(File::new(fd, kind, OpenHow { nonblock, ..how })))
            }
        }))
    }

    /// Makes the file; none where somebody else did so first.
    fn create(place: &Place, how: OpenHow) -> Result<Option<Node>> {
        if place.must_be_dir {
            return Err(Errno::ISDIR);
        }
        admit::file_system(&place.parent)?;
        let flags = how.flags() | OFlags::CREATE | OFlags::EXCL;
        match rustix::fs::openat(&place.parent, place.name()?, flags, Mode::from_raw_mode(0o666)) {
            Ok(fd) => Ok(Some(Node::File(Arc::new(File::new(fd, FileType::RegularFile, how))))),
            Err(Errno::EXIST) if !how.exclusive => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What there is to know about the object that `path` names.
    pub(crate) fn stat(&self, dir: &Dir, path: &[u8], follow: bool) -> Result<Stat> {
        match self.locate(dir, path, LastLink::followed_if(follow))? {
            Located::Stream(stream) => stream.stat(),
            Located::Place(place) => place.look().map(|(_, stat)| stat),
        }
    }

    /// What a link says.
    pub(crate) fn read_link(&self, dir: &Dir, path: &[u8]) -> Result<Vec<u8>> {
        let place = self.locate(dir, path, LastLink::Keep)?.place()?;
        admit::file_system(&place.parent)?;
        let target = rustix::fs::readlinkat(&place.parent, place.name()?, Vec::new())?;
        Ok(target.into_bytes())
    }
}
