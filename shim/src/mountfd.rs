//! Mounts by descriptor: the kernel's calls since 5.2 and 5.12 that nix does not have yet.
//!
//! A mount that is held by a descriptor and attached nowhere can be changed (read-only, propagation, ids) before
//! anybody can reach it, and is attached by descriptor, so no path is looked up twice. Source: open_tree(2),
//! mount_setattr(2), move_mount(2).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

const EMPTY: &CStr = c"";

/// What to change of a mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change<'a> {
    /// Attributes to set, `MOUNT_ATTR_*`.
    pub set: u64,
    /// Propagation: `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
    /// Translate owners as this user namespace does.
    pub ids: Option<BorrowedFd<'a>>,
    /// The mounts below it as well.
    pub recursive: bool,
}

/// A copy of the mount at `path`, and of those below it where `recursive`, attached nowhere.
pub fn copy(path: &Path, recursive: bool) -> nix::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE.unsigned_abs();
    }
    // SAFETY: open_tree(2) takes a descriptor, a C string that outlives the call, and flags.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    owned(fd)
}

/// Changes a mount. Which owners it shows can be changed only before it is attached.
pub fn change(mount: BorrowedFd<'_>, change: &Change) -> nix::Result<()> {
    let mut attributes = libc::mount_attr {
        attr_set: change.set,
        attr_clr: 0,
        propagation: change.propagation,
        userns_fd: 0,
    };
    if let Some(ids) = change.ids {
        attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attributes.userns_fd = u64::from(ids.as_raw_fd().unsigned_abs());
    }
    let mut flags = libc::AT_EMPTY_PATH;
    if change.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the structure is of the size given and outlives the call; the path is an empty C string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Attaches a mount that is attached nowhere yet.
pub fn attach(mount: BorrowedFd<'_>, target: &Path) -> nix::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: descriptors and C strings that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(result).map(drop)
}

/// A new file system with string options, attached nowhere. Answers its root directory.
pub fn create(kind: &CStr, options: &[(&CStr, &CStr)]) -> nix::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    const SET_STRING: libc::c_uint = 1;
    const CMD_CREATE: libc::c_uint = 6;
    // SAFETY: fsopen(2) takes a C string and flags.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    let configure = |command: libc::c_uint, key: *const libc::c_char, value: *const libc::c_char| {
        // SAFETY: fsconfig(2) takes C strings, which outlive the call, or null where the command has none.
        let result = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
        Errno::result(result).map(drop)
    };
    for (key, value) in options {
        configure(SET_STRING, key.as_ptr(), value.as_ptr())?;
    }
    configure(CMD_CREATE, std::ptr::null(), std::ptr::null())?;
    // SAFETY: fsmount(2) takes a descriptor and flags.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_fd().as_raw_fd(), FSMOUNT_CLOEXEC, 0) })
}

/// The mount point that `path` lies below: the nearest ancestor, or itself, that is the root of a mount.
pub fn mount_point_of(path: &Path) -> nix::Result<&Path> {
    let mut at = path;
    loop {
        if is_mount_root(at)? {
            return Ok(at);
        }
        at = at.parent().ok_or(Errno::ENOENT)?;
    }
}

fn is_mount_root(path: &Path) -> nix::Result<bool> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    is_root(libc::AT_FDCWD, &path, libc::AT_SYMLINK_NOFOLLOW)
}

/// Whether `file` is the root of the mount that it was opened on.
pub fn is_mount_root_of(file: BorrowedFd<'_>) -> nix::Result<bool> {
    is_root(file.as_raw_fd(), EMPTY, libc::AT_EMPTY_PATH)
}

fn is_root(dir: RawFd, path: &CStr, flags: libc::c_int) -> nix::Result<bool> {
    // SAFETY: all-zero is a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: a plain number, a C string and a structure that outlive the call.
    let result = unsafe { libc::statx(dir, path.as_ptr(), flags, 0, &raw mut found) };
    Errno::result(result)?;
    #[allow(clippy::cast_sign_loss)]
    let flag = libc::STATX_ATTR_MOUNT_ROOT as u64;
    Ok(found.stx_attributes & flag != 0)
}

fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(result)?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_point_of_a_file_is_the_nearest_mount_above_it() {
        assert_eq!(
            mount_point_of(Path::new("/proc/self/status")).unwrap(),
            Path::new("/proc")
        );
        assert_eq!(mount_point_of(Path::new("/proc")).unwrap(), Path::new("/proc"));
    }

    #[test]
    fn a_read_only_copy_of_a_mount_cannot_be_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "x").unwrap();
        let mount = copy(&file, false).unwrap();
        let read_only = Change {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Change::default()
        };
        change(mount.as_fd(), &read_only).unwrap();
        let through = format!("/proc/self/fd/{}", mount.as_raw_fd());
        assert_eq!(std::fs::read(&through).unwrap(), b"x");
        let refused = std::fs::OpenOptions::new().write(true).open(&through).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    }
}
