//! A name for an open file that nobody else can give another meaning.
//!
//! wasmtime opens a component by name, and the only name of a descriptor is `/proc/self/fd/N`. In a container `/proc` may
//! be covered by whatever an image or a volume brought along. So the name is looked up from a descriptor of a procfs that
//! the container has no part in: relative to the working directory, which is that procfs for so long.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{chdir, fchdir};

/// Calls `open` with a name of `file` that leads through the procfs whose root `proc` is. The process must have one thread.
pub(super) fn with_name<T>(file: &File, proc: BorrowedFd<'_>, open: impl FnOnce(PathBuf) -> T) -> io::Result<T> {
    if fstatfs(proc)?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(io::Error::other("the descriptor that should be a procfs is none"));
    }
    let before = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(".");
    fchdir(proc)?;
    let result = open(format!("self/fd/{}", file.as_raw_fd()).into());
    // A directory that its own user may not enter, or that is gone, cannot be gone back to.
    before
        .and_then(|before| Ok(fchdir(&before)?))
        .or_else(|_| Ok::<_, io::Error>(chdir(Path::new("/"))?))?;
    Ok(result)
}
