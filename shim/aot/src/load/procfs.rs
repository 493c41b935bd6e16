//! A name for an open file that nobody else can give another meaning.
//!
//! wasmtime opens a component by name, and the only name of a descriptor is `/proc/self/fd/N`. In a container `/proc` may
//! be whatever an image or a volume brought along. So it is used only if the kernel says that it is a procfs, with nothing
//! mounted over the part that counts; the name is then looked up from that directory's descriptor: relative to the working
//! directory, which is that directory for so long. A procfs of the runtime's own would show the guest more processes than its
//! container does.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{chdir, fchdir};

/// This process's descriptors, in the procfs that is mounted at `/proc`; none if there is none that can be trusted.
pub(super) fn own_descriptors() -> Option<OwnedFd> {
    descriptors_in(Path::new("/proc")).ok()
}

fn descriptors_in(proc: &Path) -> nix::Result<OwnedFd> {
    let how = |resolve| {
        OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(resolve)
    };
    let proc = openat2(AT_FDCWD, proc, how(ResolveFlag::RESOLVE_NO_SYMLINKS))?;
    if fstatfs(&proc)?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(nix::errno::Errno::ENOTSUP);
    }
    let unchanged = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(&proc, "self/fd", how(unchanged))
}

/// Calls `open` with a name of `file` in [`own_descriptors`]. The process must have one thread.
pub(super) fn with_name<T>(file: &File, descriptors: &OwnedFd, open: impl FnOnce(PathBuf) -> T) -> io::Result<T> {
    let before = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(".");
    fchdir(descriptors)?;
    let result = open(file.as_raw_fd().to_string().into());
    // A directory that its own user may not enter, or that is gone, cannot be gone back to.
    before
        .and_then(|before| Ok(fchdir(&before)?))
        .or_else(|_| Ok::<_, io::Error>(chdir(Path::new("/"))?))?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_own_procfs_gives_names() {
        assert!(own_descriptors().is_some());
        let fake = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(fake.path().join("self/fd")).unwrap();
        assert!(descriptors_in(fake.path()).is_err());
        let linked = fake.path().join("proc");
        std::os::unix::fs::symlink("/proc", &linked).unwrap();
        assert!(descriptors_in(&linked).is_err());
        // Part of a procfs is none.
        assert!(descriptors_in(Path::new("/proc/self")).is_err());
    }
}
