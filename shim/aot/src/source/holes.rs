//! What of a file is not stored.

use std::fs::File;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Holes that are counted.
pub const MOST: usize = 1024;

/// The bytes of all holes in the first `size` bytes of `file`, or `None` where there are more than anybody needs. Moves the
/// file's position.
pub fn count(file: &File, size: u64) -> nix::Result<Option<u64>> {
    let mut bytes = 0;
    let mut position = 0;
    for _ in 0..MOST {
        let at = i64::try_from(position).map_err(|_| Errno::EFBIG)?;
        let hole = match lseek(file, at, Whence::SeekHole) {
            Ok(hole) => u64::try_from(hole).unwrap_or(size),
            // The file system knows no holes, or the file ends here.
            Err(Errno::EINVAL | Errno::ENXIO) => return Ok(Some(bytes)),
            Err(errno) => return Err(errno),
        };
        if hole >= size {
            return Ok(Some(bytes));
        }
        let at = i64::try_from(hole).map_err(|_| Errno::EFBIG)?;
        position = match lseek(file, at, Whence::SeekData) {
            Ok(data) => u64::try_from(data).unwrap_or(size).min(size),
            Err(Errno::ENXIO) => size,
            Err(errno) => return Err(errno),
        };
        bytes += position.saturating_sub(hole);
        if position >= size {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
