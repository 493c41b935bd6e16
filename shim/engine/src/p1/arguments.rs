//! Arguments, environment, and random numbers: what a guest is given.

use super::memory::Memory;
use super::{Failure, Preview1, Result};
use rustix::io::Errno;

pub(super) fn args_get(guest: &mut Preview1, memory: &mut Memory<'_>, pointers: u32, text: u32) -> Result<()> {
    put_strings(&guest.args, memory, pointers, text)
}

pub(super) fn args_sizes_get(guest: &mut Preview1, memory: &mut Memory<'_>, count: u32, size: u32) -> Result<()> {
    put_sizes(&guest.args, memory, count, size)
}

pub(super) fn environ_get(guest: &mut Preview1, memory: &mut Memory<'_>, pointers: u32, text: u32) -> Result<()> {
    put_strings(&guest.env, memory, pointers, text)
}

pub(super) fn environ_sizes_get(guest: &mut Preview1, memory: &mut Memory<'_>, count: u32, size: u32) -> Result<()> {
    put_sizes(&guest.env, memory, count, size)
}

/// Straight from the kernel: whatever was seeded before the fork would be the same in all containers.
pub(super) fn random_get(_: &mut Preview1, memory: &mut Memory<'_>, buffer: u32, len: u32) -> Result<()> {
    let mut rest = memory.slice_mut(buffer, len)?;
    while !rest.is_empty() {
        // SAFETY: the pointer and the length are those of a live, exclusive slice.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => rest = rest.get_mut(got..).unwrap_or_default(),
            Err(_) => match Errno::from_io_error(&std::io::Error::last_os_error()) {
                Some(Errno::INTR) => {}
                errno => return Err(errno.unwrap_or(Errno::IO).into()),
            },
        }
    }
    Ok(())
}

/// Each string ends with NUL.
fn put_strings(strings: &[Vec<u8>], memory: &mut Memory<'_>, mut pointer: u32, mut text: u32) -> Result<()> {
    for string in strings {
        memory.put_u32(pointer, text)?;
        memory.put(text, string)?;
        text = advanced(text, string.len())?;
        memory.put(text, &[0])?;
        text = advanced(text, 1)?;
        pointer = advanced(pointer, 4)?;
    }
    Ok(())
}

fn put_sizes(strings: &[Vec<u8>], memory: &mut Memory<'_>, count: u32, size: u32) -> Result<()> {
    memory.put_size(count, strings.len())?;
    memory.put_size(size, strings.iter().map(|string| string.len() + 1).sum())
}

fn advanced(pointer: u32, by: usize) -> Result<u32> {
    let next = u32::try_from(by).ok().and_then(|by| pointer.checked_add(by));
    next.ok_or(Failure::Errno(Errno::OVERFLOW))
}
