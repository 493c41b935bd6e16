//! The guest's memory, as its pointers see it: little-endian, and checked.

use super::{Failure, Result};

/// All bytes of the guest's memory.
pub(super) struct Memory<'a> {
    bytes: &'a mut [u8],
}

/// One of the buffers that a guest reads into or writes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// Buffers that one call may name, the kernel's limit.
const MAX_BUFFERS: u32 = 1024;

/// Bytes of a pair of pointer and length.
const BUFFER_SIZE: u32 = 8;

impl<'a> Memory<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn slice(&self, start: u32, len: u32) -> Result<&[u8]> {
        self.bytes.get(range(start, len)).ok_or_else(out_of_bounds)
    }

    pub(super) fn slice_mut(&mut self, start: u32, len: u32) -> Result<&mut [u8]> {
        self.bytes.get_mut(range(start, len)).ok_or_else(out_of_bounds)
    }

    fn array<const N: usize>(&self, start: u32) -> Result<[u8; N]> {
        let from = usize::try_from(start).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(from..).and_then(|rest| rest.first_chunk());
        bytes.copied().ok_or_else(out_of_bounds)
    }

    pub(super) fn u8(&self, start: u32) -> Result<u8> {
        self.array(start).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&self, start: u32) -> Result<u16> {
        self.array(start).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&self, start: u32) -> Result<u32> {
        self.array(start).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&self, start: u32) -> Result<u64> {
        self.array(start).map(u64::from_le_bytes)
    }

    pub(super) fn put(&mut self, start: u32, bytes: &[u8]) -> Result<()> {
        let len = u32::try_from(bytes.len()).map_err(|_| out_of_bounds())?;
        self.slice_mut(start, len)?.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn put_u32(&mut self, start: u32, value: u32) -> Result<()> {
        self.put(start, &value.to_le_bytes())
    }

    pub(super) fn put_u64(&mut self, start: u32, value: u64) -> Result<()> {
        self.put(start, &value.to_le_bytes())
    }

    /// A size, which fits as it counts bytes of this memory.
    pub(super) fn put_size(&mut self, start: u32, size: usize) -> Result<()> {
        let size = u32::try_from(size).map_err(|_| Failure::Errno(rustix::io::Errno::OVERFLOW))?;
        self.put_u32(start, size)
    }

    /// The buffers of an array of pairs of pointer and length, without the empty ones.
    pub(super) fn buffers(&self, start: u32, count: u32) -> Result<Vec<Buffer>> {
        if count > MAX_BUFFERS {
            return Err(rustix::io::Errno::INVAL.into());
        }
        let pairs = self.slice(start, count * BUFFER_SIZE)?;
        let mut buffers = Vec::with_capacity(pairs.len() / 8);
        for index in 0..count {
            let pair = start + index * BUFFER_SIZE;
            let (start, len) = (self.u32(pair)?, self.u32(pair + 4)?);
            self.slice(start, len)?;
            if len > 0 {
                buffers.push(Buffer { start, len });
            }
        }
        Ok(buffers)
    }
}

fn range(start: u32, len: u32) -> std::ops::Range<usize> {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    start..start.saturating_add(usize::try_from(len).unwrap_or(usize::MAX))
}

fn out_of_bounds() -> Failure {
    Failure::Trap(wasmtime::format_err!(
        "the guest passed a pointer that leads out of its memory"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_out_of_memory_are_traps() {
        let mut bytes = [0; 64];
        let memory = Memory::new(&mut bytes);
        assert!(memory.slice(0, 64).is_ok());
        assert!(matches!(memory.slice(1, 64), Err(Failure::Trap(_))));
        assert!(matches!(memory.slice(u32::MAX, u32::MAX), Err(Failure::Trap(_))));
        assert!(matches!(memory.u64(57), Err(Failure::Trap(_))));
        assert!(memory.u64(56).is_ok());
        assert!(matches!(memory.buffers(60, 1), Err(Failure::Trap(_))));
        assert!(matches!(memory.buffers(0, u32::MAX), Err(Failure::Errno(_))));
    }

    #[test]
    fn empty_buffers_are_left_out() {
        let mut bytes = [0; 64];
        let mut memory = Memory::new(&mut bytes);
        memory.put_u32(8, 32).ok().unwrap();
        memory.put_u32(12, 5).ok().unwrap();
        let buffers = memory.buffers(0, 2).ok().unwrap();
        assert_eq!(buffers.len(), 1);
        assert_eq!((buffers[0].start, buffers[0].len), (32, 5));
    }
}
