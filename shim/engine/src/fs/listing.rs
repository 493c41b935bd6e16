//! What a directory holds.

use super::{Dir, Result};
use rustix::fs::{AtFlags, FileType, RawDir, SeekFrom};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes of entries that are read at once: at least one entry with the longest name, at most what the kernel's own
/// readers ask for.
const BUFFER: std::ops::RangeInclusive<usize> = 512..=32 * 1024;

/// One entry of a directory.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) inode: u64,
    pub(crate) kind: FileType,
    /// Where the listing goes on after this entry; the file system's own number.
    pub(crate) next: u64,
}

impl Dir {
    /// Hands entries to `take` from `start` on, which is 0 or an earlier entry's `next`, until it has enough or there are
    /// no more. `size` is about how many bytes of entries it can take.
    pub(crate) fn list(&self, start: u64, size: usize, mut take: impl FnMut(Entry) -> bool) -> Result<()> {
        let fd = self.readable()?;
        rustix::fs::seek(fd, SeekFrom::Start(start))?;
        let mut buffer = vec![MaybeUninit::uninit(); size.clamp(*BUFFER.start(), *BUFFER.end())];
        let mut entries = RawDir::new(fd, &mut buffer);
        while let Some(entry) = entries.next() {
            if !take(self.entry(&entry?)) {
                break;
            }
        }
        Ok(())
    }

    /// A reader with a position of its own.
    pub(crate) fn lister(&self) -> Result<Lister> {
        Ok(Lister { fd: self.reopened()? })
    }

    fn entry(&self, raw: &rustix::fs::RawDirEntry<'_>) -> Entry {
        to_entry(self.fd.as_fd(), raw)
    }
}

/// Reads a directory from its beginning to its end, without `.` and `..`.
#[derive(Debug)]
pub(crate) struct Lister {
    fd: OwnedFd,
}

impl Lister {
    /// The next few entries; none at the end.
    pub(crate) fn next_few(&self) -> Result<Vec<Entry>> {
        let mut buffer = vec![MaybeUninit::uninit(); *BUFFER.end()];
        let mut found = Vec::new();
        let mut entries = RawDir::new(&self.fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                found.push(to_entry(self.fd.as_fd(), &entry));
            }
            // Without this, the iterator would read on when its buffer is empty.
            if entries.is_buffer_empty() && !found.is_empty() {
                break;
            }
        }
        Ok(found)
    }
}

fn to_entry(dir: rustix::fd::BorrowedFd<'_>, raw: &rustix::fs::RawDirEntry<'_>) -> Entry {
    let kind = match raw.file_type() {
        // Some file systems do not keep the type with the name.
        FileType::Unknown => kind_of(dir, raw.file_name()).unwrap_or(FileType::Unknown),
        kind => kind,
    };
    Entry {
        name: raw.file_name().to_bytes().to_vec(),
        inode: raw.ino(),
        kind,
        next: raw.next_entry_cookie(),
    }
}

fn kind_of(dir: rustix::fd::BorrowedFd<'_>, name: &std::ffi::CStr) -> std::result::Result<FileType, Errno> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}
