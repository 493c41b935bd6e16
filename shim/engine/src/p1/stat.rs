//! What a descriptor is, and what there is to know about its object.

use super::memory::Memory;
use super::{Preview1, Result, clock};
use crate::fs::{File, Node, links};
use rustix::fs::{FileType, OFlags, Stat, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use rustix::time::Timespec;

/// Preview 1's `fdflags`.
pub(super) mod flags {
    pub(crate) const APPEND: u16 = 1;
    pub(crate) const DSYNC: u16 = 1 << 1;
    pub(crate) const NONBLOCK: u16 = 1 << 2;
    pub(crate) const RSYNC: u16 = 1 << 3;
    pub(crate) const SYNC: u16 = 1 << 4;
    pub(crate) const ALL: u16 = (1 << 5) - 1;
}

/// Preview 1's `rights`. Nothing is enforced by them, but guests conclude from them what a descriptor can do.
pub(super) mod rights {
    pub(crate) const FD_READ: u64 = 1 << 1;
    pub(crate) const FD_WRITE: u64 = 1 << 6;
    const FD_SEEK: u64 = 1 << 2;
    const FD_TELL: u64 = 1 << 5;
    const POLL: u64 = 1 << 27;
    /// fdstat_set_flags, sync, datasync, advise, allocate, filestat_get, filestat_set_size, filestat_set_times.
    const FILE: u64 = 1 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 8 | 1 << 21 | 1 << 22 | 1 << 23 | POLL;
    /// All `path_` rights, readdir, and what a directory shares with files.
    pub(crate) const DIRECTORY: u64 = 1 | 1 << 3 | 1 << 4 | 0x7f << 9 | 0x1f << 16 | 1 << 21 | 1 << 23 | 0x7 << 24;
    pub(crate) const STREAM: u64 = 1 << 3 | 1 << 21 | POLL;
    pub(crate) const SEEKABLE_FILE: u64 = FILE | FD_SEEK | FD_TELL;
    pub(crate) const PIPE: u64 = FILE;
    pub(crate) const INHERITED: u64 = DIRECTORY | SEEKABLE_FILE | FD_READ | FD_WRITE;
}

pub(super) fn file_type(kind: FileType) -> u8 {
    match kind {
        FileType::BlockDevice => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 3,
        FileType::RegularFile => 4,
        FileType::Socket => 6,
        FileType::Symlink => 7,
        // Preview 1 has no number for FIFOs.
        FileType::Fifo | FileType::Unknown => 0,
    }
}

/// A stream is a character device where it is a terminal: that is how guests find out.
fn node_type(node: &Node, stat: &Stat) -> u8 {
    match node {
        Node::Stream(stream) if stream.is_terminal() => 2,
        Node::Stream(_) => 0,
        Node::File(_) | Node::Dir(_) => file_type(FileType::from_raw_mode(stat.st_mode)),
    }
}

pub(super) fn fdstat_get(guest: &mut Preview1, memory: &mut Memory<'_>, fd: u32, out: u32) -> Result<()> {
    let descriptor = guest.descriptor(fd)?;
    let (flags, base, inheriting) = match &descriptor.node {
        Node::Dir(_) => (0, rights::DIRECTORY, rights::INHERITED),
        Node::File(file) => (flags_of(file)?, rights_of(file), 0),
        Node::Stream(stream) => {
            let way = match stream {
                crate::fs::Stream::Stdin => rights::FD_READ,
                crate::fs::Stream::Stdout | crate::fs::Stream::Stderr => rights::FD_WRITE,
            };
            let flags = if descriptor.nonblock { flags::NONBLOCK } else { 0 };
            (flags, rights::STREAM | way, 0)
        }
    };
    let kind = node_type(&descriptor.node, &descriptor.node.stat()?);
    let mut bytes = [0; 24];
    bytes[0] = kind;
    bytes[2..4].copy_from_slice(&flags.to_le_bytes());
    bytes[8..16].copy_from_slice(&base.to_le_bytes());
    bytes[16..].copy_from_slice(&inheriting.to_le_bytes());
    memory.put(out, &bytes)
}

fn flags_of(file: &File) -> Result<u16> {
    let status = file.status()?;
    let mut found = 0;
    for (flag, value) in [
        (OFlags::APPEND, flags::APPEND),
        (OFlags::DSYNC, flags::DSYNC),
        // O_SYNC has the bit of O_DSYNC too.
        (OFlags::SYNC, flags::SYNC | flags::RSYNC),
    ] {
        if status.contains(flag) {
            found |= value;
        }
    }
    if file.is_nonblocking() {
        found |= flags::NONBLOCK;
    }
    Ok(found)
}

fn rights_of(file: &File) -> u64 {
    let mut rights = if file.is_pipe() {
        rights::PIPE
    } else {
        rights::SEEKABLE_FILE
    };
    if file.readable {
        rights |= rights::FD_READ;
    }
    if file.writable {
        rights |= rights::FD_WRITE;
    }
    rights
}

pub(super) fn fdstat_set_flags(guest: &mut Preview1, _: &mut Memory<'_>, fd: u32, new: u32) -> Result<()> {
    let descriptor = guest.descriptor(fd)?;
    let new = known_flags(new)?;
    let nonblock = new & flags::NONBLOCK != 0;
    match &descriptor.node {
        Node::File(file) => {
            // The kernel ignores a change of these, which would be a lie about what is on the disk.
            let synchronous = flags::DSYNC | flags::SYNC | flags::RSYNC;
            if (new & synchronous) & !flags_of(file)? != 0 {
                return Err(Errno::INVAL.into());
            }
            file.set_status(new & flags::APPEND != 0, nonblock)?;
        }
        Node::Stream(_) => descriptor.nonblock = nonblock,
        Node::Dir(_) => return Err(Errno::BADF.into()),
    }
    Ok(())
}

pub(super) fn known_flags(flags: u32) -> Result<u16> {
    let known = u16::try_from(flags).ok().filter(|flags| flags & !flags::ALL == 0);
    Ok(known.ok_or(Errno::INVAL)?)
}

/// Rights can only be given up; nothing depends on them here.
pub(super) fn fdstat_set_rights(
    guest: &mut Preview1,
    _: &mut Memory<'_>,
    fd: u32,
    _base: u64,
    _inheriting: u64,
) -> Result<()> {
    guest.descriptor(fd)?;
    Err(Errno::OPNOTSUPP.into())
}

pub(super) fn filestat_get(guest: &mut Preview1, memory: &mut Memory<'_>, fd: u32, out: u32) -> Result<()> {
    let node = guest.node(fd)?;
    let stat = node.stat()?;
    put(memory, out, &stat, node_type(&node, &stat))
}

/// Writes the object's attributes as preview 1 has them.
pub(super) fn put(memory: &mut Memory<'_>, out: u32, stat: &Stat, kind: u8) -> Result<()> {
    let time = |seconds: i64, nanoseconds: u64| {
        let nanoseconds = i64::try_from(nanoseconds).unwrap_or_default();
        clock::nanoseconds(Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        })
    };
    let fields = [
        stat.st_dev,
        stat.st_ino,
        u64::from(kind),
        links(stat),
        u64::try_from(stat.st_size).unwrap_or_default(),
        time(stat.st_atime, stat.st_atime_nsec),
        time(stat.st_mtime, stat.st_mtime_nsec),
        time(stat.st_ctime, stat.st_ctime_nsec),
    ];
    let bytes = fields.iter().flat_map(|field| field.to_le_bytes()).collect::<Vec<_>>();
    memory.put(out, &bytes)
}

pub(super) fn filestat_set_size(guest: &mut Preview1, _: &mut Memory<'_>, fd: u32, size: u64) -> Result<()> {
    match guest.node(fd)? {
        Node::File(file) => Ok(file.set_size(size)?),
        Node::Dir(_) | Node::Stream(_) => Err(Errno::BADF.into()),
    }
}

pub(super) fn filestat_set_times(
    guest: &mut Preview1,
    _: &mut Memory<'_>,
    fd: u32,
    accessed: u64,
    modified: u64,
    which: u32,
) -> Result<()> {
    let node = guest.node(fd)?;
    Ok(node.set_times(&times(accessed, modified, which)?)?)
}

/// The times to set, by preview 1's `fstflags`: for each of the two, a bit for the value given and one for now.
pub(super) fn times(accessed: u64, modified: u64, which: u32) -> Result<Timestamps> {
    let time = |given: u32, now: u32, value: u64| match (which & given != 0, which & now != 0) {
        (true, true) => Err(Errno::INVAL),
        (true, false) => Ok(clock::timespec(value)),
        (false, now) => Ok(Timespec {
            tv_sec: 0,
            tv_nsec: if now { UTIME_NOW } else { UTIME_OMIT },
        }),
    };
    if which >= 1 << 4 {
        return Err(Errno::INVAL.into());
    }
    Ok(Timestamps {
        last_access: time(1, 1 << 1, accessed)?,
        last_modification: time(1 << 2, 1 << 3, modified)?,
    })
}

pub(super) fn prestat_get(guest: &mut Preview1, memory: &mut Memory<'_>, fd: u32, out: u32) -> Result<()> {
    let name = preopened_as(guest, fd)?;
    memory.put_u32(out, 0)?;
    memory.put_size(out.wrapping_add(4), name.len())
}

pub(super) fn prestat_dir_name(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    buffer: u32,
    len: u32,
) -> Result<()> {
    let name = preopened_as(guest, fd)?;
    if usize::try_from(len).is_ok_and(|len| len < name.len()) {
        return Err(Errno::NAMETOOLONG.into());
    }
    memory.put(buffer, name.as_bytes())
}

fn preopened_as(guest: &mut Preview1, fd: u32) -> Result<&'static str> {
    if guest.descriptor(fd)?.preopened {
        Ok("/")
    } else {
        Err(Errno::BADF.into())
    }
}
