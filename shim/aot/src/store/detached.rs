//! Opening an entry where nobody else can reach it.
//!
//! A guest keeps its compiled code open, and whoever may look into the guest's process can open the same file anew
//! through `/proc/PID/fd`: for writing too, if the mount allows it, and so change the code of all containers of that
//! module. So an entry is given out on a copy of its mount that is read-only, attached nowhere and known by this
//! descriptor only. It can be neither remounted nor bound from elsewhere.
//! Source: open_tree(2), mount_setattr(2).

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

const EMPTY: &CStr = c"";

/// Opens `file` again, for reading, on a read-only mount of its own. `/proc` must be the node's.
pub(super) fn open(file: &File) -> io::Result<File> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.unsigned_abs();
    // SAFETY: open_tree(2) takes a descriptor, a C string that outlives the call, and flags.
    let copied = unsafe { libc::syscall(libc::SYS_open_tree, file.as_raw_fd(), EMPTY.as_ptr(), flags) };
    let number = i32::try_from(Errno::result(copied)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
    let mount = unsafe { OwnedFd::from_raw_fd(number) };
    let read_only = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the structure is of the size given and outlives the call; the path is an empty C string.
    let changed = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const read_only,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(changed)?;
    File::open(format!("/proc/self/fd/{}", mount.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn what_is_given_out_cannot_be_opened_for_writing_by_root() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("entry");
        std::fs::write(&path, "code").unwrap();
        let given = open(&File::open(&path).unwrap()).unwrap();
        let link = format!("/proc/self/fd/{}", given.as_raw_fd());
        assert_eq!(std::fs::read(&link).unwrap(), b"code");
        let refused = OpenOptions::new().write(true).open(&link).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    }
}
