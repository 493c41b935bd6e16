//! A large binary's sections, followed by their headers.

use std::fs::File;
use std::io;

use super::{HEADER, read_full};

/// More sections than this are left to the validation; real modules have some dozens, components some thousands.
const MOST: usize = 100_000;

/// Follows the section headers to the end of the file, so that a large file that was cut short, or is garbage behind a valid
/// header, is told without reading it. The inner error says what is wrong with it.
pub fn walk(file: &File, size: u64) -> io::Result<Result<(), String>> {
    let mut position = HEADER as u64;
    for _ in 0..MOST {
        if position == size {
            break;
        }
        // An id and a length of at most five bytes (LEB128 of 32 bits).
        let mut header = [0; 6];
        let count = read_full(file, &mut header, position)?;
        let Some((length, length_size)) = leb128_u32(&header[1..count.max(1)]) else {
            return Ok(Err(format!(
                "it has no section at offset {position:#x}, where one must start"
            )));
        };
        let end = position + 1 + length_size + u64::from(length);
        if end > size {
            return Ok(Err(format!(
                "section {} at offset {position:#x} reaches to {end:#x}, but the file ends at {size:#x}: \
                 it was cut short or damaged",
                header[0]
            )));
        }
        position = end;
    }
    Ok(Ok(()))
}

/// The number at the start of `bytes` and the count of bytes that it takes.
fn leb128_u32(bytes: &[u8]) -> Option<(u32, u64)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, index as u64 + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn endless_empty_sections_do_not_keep_the_reader_busy() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(256 << 20).unwrap();
        let begin = Instant::now();
        walk(&file, 256 << 20).unwrap().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
}
