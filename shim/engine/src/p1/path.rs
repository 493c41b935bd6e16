//! Functions on paths, each seen from an open directory.

use super::descriptors::Descriptor;
use super::memory::Memory;
use super::stat::{self, flags, rights};
use super::{Preview1, Result};
use crate::fs::OpenHow;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

/// Preview 1's `lookupflags::symlink_follow`.
const FOLLOW: u32 = 1;

pub(super) fn create_directory(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    path: u32,
    len: u32,
) -> Result<()> {
    let dir = guest.dir(fd)?;
    Ok(guest.view.make_dir(&dir, memory.slice(path, len)?)?)
}

pub(super) fn remove_directory(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    path: u32,
    len: u32,
) -> Result<()> {
    let dir = guest.dir(fd)?;
    Ok(guest.view.remove_dir(&dir, memory.slice(path, len)?)?)
}

pub(super) fn unlink_file(guest: &mut Preview1, memory: &mut Memory<'_>, fd: u32, path: u32, len: u32) -> Result<()> {
    let dir = guest.dir(fd)?;
    Ok(guest.view.unlink(&dir, memory.slice(path, len)?)?)
}

pub(super) fn filestat_get(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    follow: u32,
    path: u32,
    len: u32,
    out: u32,
) -> Result<()> {
    let dir = guest.dir(fd)?;
    let found = guest.view.stat(&dir, memory.slice(path, len)?, follow & FOLLOW != 0)?;
    let kind = stat::file_type(FileType::from_raw_mode(found.st_mode));
    stat::put(memory, out, &found, kind)
}

pub(super) fn filestat_set_times(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    follow: u32,
    path: u32,
    len: u32,
    accessed: u64,
    modified: u64,
    which: u32,
) -> Result<()> {
    let dir = guest.dir(fd)?;
    let times = stat::times(accessed, modified, which)?;
    let path = memory.slice(path, len)?;
    Ok(guest.view.set_times(&dir, path, follow & FOLLOW != 0, &times)?)
}

pub(super) fn link(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    from: u32,
    follow: u32,
    path: u32,
    len: u32,
    to: u32,
    new: u32,
    new_len: u32,
) -> Result<()> {
    let (from, to) = (guest.dir(from)?, guest.dir(to)?);
    let (old, new) = (memory.slice(path, len)?, memory.slice(new, new_len)?);
    Ok(guest.view.link((&from, old), follow & FOLLOW != 0, (&to, new))?)
}

pub(super) fn rename(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    from: u32,
    path: u32,
    len: u32,
    to: u32,
    new: u32,
    new_len: u32,
) -> Result<()> {
    let (from, to) = (guest.dir(from)?, guest.dir(to)?);
    let (old, new) = (memory.slice(path, len)?, memory.slice(new, new_len)?);
    Ok(guest.view.rename((&from, old), (&to, new))?)
}

pub(super) fn symlink(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    target: u32,
    target_len: u32,
    fd: u32,
    path: u32,
    len: u32,
) -> Result<()> {
    let dir = guest.dir(fd)?;
    let (target, path) = (memory.slice(target, target_len)?, memory.slice(path, len)?);
    Ok(guest.view.make_link(target, &dir, path)?)
}

pub(super) fn readlink(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    path: u32,
    len: u32,
    buffer: u32,
    size: u32,
    out: u32,
) -> Result<()> {
    let dir = guest.dir(fd)?;
    let mut target = guest.view.read_link(&dir, memory.slice(path, len)?)?;
    target.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    memory.put(buffer, &target)?;
    memory.put_size(out, target.len())
}

pub(super) fn open(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    fd: u32,
    follow: u32,
    path: u32,
    len: u32,
    how: u32,
    wanted: u64,
    _inheriting: u64,
    new_flags: u32,
    out: u32,
) -> Result<()> {
    let dir = guest.dir(fd)?;
    let how = open_how(how, wanted, stat::known_flags(new_flags)?)?;
    let node = guest
        .view
        .open(&dir, memory.slice(path, len)?, follow & FOLLOW != 0, how)?;
    // Before the descriptor is made, which nobody would know of if this failed.
    memory.slice(out, 4)?;
    let opened = guest.descriptors.add(Descriptor::new(node, how.nonblock))?;
    memory.put_u32(out, opened)
}

/// From `oflags`, the rights that the guest wants, and `fdflags`.
fn open_how(how: u32, wanted: u64, new_flags: u16) -> Result<OpenHow> {
    if how >= 1 << 4 {
        return Err(Errno::INVAL.into());
    }
    let mut status = OFlags::empty();
    status.set(OFlags::APPEND, new_flags & flags::APPEND != 0);
    status.set(OFlags::DSYNC, new_flags & flags::DSYNC != 0);
    status.set(OFlags::SYNC, new_flags & (flags::SYNC | flags::RSYNC) != 0);
    Ok(OpenHow {
        read: wanted & rights::FD_READ != 0,
        write: wanted & rights::FD_WRITE != 0,
        create: how & 1 != 0,
        directory: how & 1 << 1 != 0,
        exclusive: how & 1 << 2 != 0,
        truncate: how & 1 << 3 != 0,
        nonblock: new_flags & flags::NONBLOCK != 0,
        status,
    })
}
