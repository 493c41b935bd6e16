//! Functions on open descriptors: reading, writing, positions, directories.

use super::descriptors::Descriptor;
use super::memory::{Buffer, Memory};
use super::{Failure, Preview1, Result};
use crate::fs::{At, Dir, Entry, File, Node};
use rustix::fs::{Advice, SeekFrom};
use rustix::io::Errno;
use std::io::IoSlice;
use std::sync::Arc;

/// Bytes of a directory entry before its name.
const ENTRY: usize = 24;

fn file(guest: &mut Preview1, fd: u32) -> Result<Arc<File>> {
    match &guest.descriptor(fd)?.node {
        Node::File(file) => Ok(Arc::clone(file)),
        Node::Dir(_) | Node::Stream(_) => Err(Errno::BADF.into()),
    }
}

pub(super) fn advise(
    guest: &mut Preview1,
    _: &mut Memory<'_>,
    fd: u32,
    offset: u64,
    len: u64,
    advice: u32,
) -> Result<()> {
    let file = file(guest, fd)?;
    let advice = match advice {
        0 => Advice::Normal,
        1 => Advice::Sequential,
        2 => Advice::Random,
        3 => Advice::WillNeed,
        4 => Advice::DontNeed,
        5 => Advice::NoReuse,
        _ => return Err(Errno::INVAL.into()),
    };
    Ok(file.advise(offset, len, advice)?)
}

pub(super) fn allocate(guest: &mut Preview1, _: &mut Memory<'_>, fd: u32, offset: u64, len: u64) -> Result<()> {
    Ok(file(guest, fd)?.allocate(offset, len)?)
}

pub(super) fn close(guest: &mut Preview1, _: &mut Memory<'_>, fd: u32) -> Result<()> {
    guest.descriptors.remove(fd).map(drop)
}

pub(super) fn sync(guest: &mut Preview1, _: &mut Memory<'_>, fd: u32) -> Result<()> {
    Ok(guest.node(fd)?.sync(false)?)
}

pub(super) fn datasync(guest: &mut Preview1, _: &mut Memory<'_>, fd: u32) -> Result<()> {
    Ok(guest.node(fd)?.sync(true)?)
}

pub(super) fn read(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    buffers: u32,
    count: u32,
    out: u32,
) -> Result<()> {
    read_at(guest, memory, fd, (buffers, count), None, out)
}

pub(super) fn pread(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    buffers: u32,
    count: u32,
    offset: u64,
    out: u32,
) -> Result<()> {
    read_at(guest, memory, fd, (buffers, count), Some(offset), out)
}

fn read_at(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    (buffers, count): (u32, u32),
    offset: Option<u64>,
    out: u32,
) -> Result<()> {
    let descriptor = guest.descriptor(fd)?;
    let buffers = memory.buffers(buffers, count)?;
    let mut total = 0;
    for Buffer { start, len } in buffers {
        match read_once(descriptor, memory.slice_mut(start, len)?, offset, total) {
            Ok(got) => {
                total += got;
                // A stream or a pipe might wait for the next buffer's part.
                let goes_on = matches!(&descriptor.node, Node::File(file) if !file.is_pipe());
                if u32::try_from(got) != Ok(len) || !goes_on {
                    break;
                }
            }
            Err(_) if total > 0 => break,
            Err(failure) => return Err(failure),
        }
    }
    memory.put_size(out, total)
}

fn read_once(descriptor: &Descriptor, buffer: &mut [u8], offset: Option<u64>, done: usize) -> Result<usize> {
    Ok(match (&descriptor.node, offset) {
        (Node::File(file), _) if !file.readable => return Err(Errno::BADF.into()),
        (Node::File(file), None) => file.read(buffer, At::Position)?,
        (Node::File(file), Some(offset)) => file.read(buffer, At::Offset(further(offset, done)?))?,
        (Node::Stream(stream), None) => stream.read(buffer, descriptor.nonblock)?,
        (Node::Stream(_), Some(_)) => return Err(Errno::SPIPE.into()),
        (Node::Dir(_), _) => return Err(Errno::ISDIR.into()),
    })
}

fn further(offset: u64, done: usize) -> Result<u64> {
    let done = u64::try_from(done).map_err(|_| Errno::OVERFLOW)?;
    offset.checked_add(done).ok_or(Failure::Errno(Errno::OVERFLOW))
}

pub(super) fn write(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    buffers: u32,
    count: u32,
    out: u32,
) -> Result<()> {
    write_at(guest, memory, fd, (buffers, count), None, out)
}

pub(super) fn pwrite(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    buffers: u32,
    count: u32,
    offset: u64,
    out: u32,
) -> Result<()> {
    write_at(guest, memory, fd, (buffers, count), Some(offset), out)
}

fn write_at(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    (buffers, count): (u32, u32),
    offset: Option<u64>,
    out: u32,
) -> Result<()> {
    let descriptor = guest.descriptor(fd)?;
    let buffers = memory.buffers(buffers, count)?;
    let slices = buffers
        .iter()
        .map(|buffer| memory.slice(buffer.start, buffer.len).map(IoSlice::new));
    let slices = slices.collect::<Result<Vec<_>>>()?;
    let written = match (&descriptor.node, offset) {
        (Node::File(file), _) if !file.writable => return Err(Errno::BADF.into()),
        (Node::File(file), None) => file.write(&slices, At::Position)?,
        (Node::File(file), Some(offset)) => file.write(&slices, At::Offset(offset))?,
        (Node::Stream(stream), None) => stream.write(&slices, descriptor.nonblock)?,
        (Node::Stream(_), Some(_)) => return Err(Errno::SPIPE.into()),
        (Node::Dir(_), _) => return Err(Errno::ISDIR.into()),
    };
    memory.put_size(out, written)
}

pub(super) fn seek(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    offset: i64,
    whence: u32,
    out: u32,
) -> Result<()> {
    let to = match whence {
        0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::INVAL)?),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        _ => return Err(Errno::INVAL.into()),
    };
    let position = seekable(guest, fd)?.seek(to)?;
    memory.put_u64(out, position)
}

pub(super) fn tell(guest: &mut Preview1, memory: &mut Memory<'_>, fd: u32, out: u32) -> Result<()> {
    let position = seekable(guest, fd)?.seek(SeekFrom::Current(0))?;
    memory.put_u64(out, position)
}

fn seekable(guest: &mut Preview1, fd: u32) -> Result<Arc<File>> {
    match guest.node(fd)? {
        Node::File(file) => Ok(file),
        Node::Stream(_) => Err(Errno::SPIPE.into()),
        Node::Dir(_) => Err(Errno::BADF.into()),
    }
}

pub(super) fn renumber(guest: &mut Preview1, _: &mut Memory<'_>, from: u32, to: u32) -> Result<()> {
    guest.descriptors.renumber(from, to)
}

pub(super) fn readdir(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    buffer: u32,
    len: u32,
    cookie: u64,
    out: u32,
) -> Result<()> {
    let dir = guest.dir(fd)?;
    let used = list(&dir, cookie, memory.slice_mut(buffer, len)?)?;
    memory.put_size(out, used)
}

/// Fills the buffer with entries; the last one is cut where it does not fit, which tells the guest that there are more.
fn list(dir: &Dir, cookie: u64, buffer: &mut [u8]) -> Result<usize> {
    let size = buffer.len();
    let mut rest = buffer;
    dir.list(cookie, size, |entry| {
        let bytes = entry_bytes(&entry);
        let fitting = bytes.len().min(rest.len());
        let (now, later) = std::mem::take(&mut rest).split_at_mut(fitting);
        now.copy_from_slice(bytes.get(..fitting).unwrap_or_default());
        rest = later;
        !rest.is_empty()
    })?;
    Ok(size - rest.len())
}

fn entry_bytes(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRY + entry.name.len());
    bytes.extend(entry.next.to_le_bytes());
    bytes.extend(entry.inode.to_le_bytes());
    bytes.extend(u32::try_from(entry.name.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend([super::stat::file_type(entry.kind), 0, 0, 0]);
    bytes.extend(&entry.name);
    bytes
}

/// Preview 1 has no call to open a socket, and none is given to a guest.
fn no_socket(guest: &mut Preview1, fd: u32) -> Result<()> {
    guest.descriptor(fd)?;
    Err(Errno::NOTSOCK.into())
}

pub(super) fn sock_accept(guest: &mut Preview1, _: &mut Memory<'_>, fd: u32, _flags: u32, _out: u32) -> Result<()> {
    no_socket(guest, fd)
}

pub(super) fn sock_recv(
    guest: &mut Preview1,
    _: &mut Memory<'_>,
    fd: u32,
    _buffers: u32,
    _count: u32,
    _flags: u32,
    _out: u32,
    _out_flags: u32,
) -> Result<()> {
    no_socket(guest, fd)
}

pub(super) fn sock_send(
    guest: &mut Preview1,
    _: &mut Memory<'_>,
    fd: u32,
    _buffers: u32,
    _count: u32,
    _flags: u32,
    _out: u32,
) -> Result<()> {
    no_socket(guest, fd)
}

pub(super) fn sock_shutdown(guest: &mut Preview1, _: &mut Memory<'_>, fd: u32, _how: u32) -> Result<()> {
    no_socket(guest, fd)
}
