//! The shim's own binary, where no container can overwrite it.
//!
//! Whoever finds a process that runs the binary, as `/proc/<pid>/exe`, reaches the file through the mount that it was
//! executed from. On the node's mount that file can be opened for writing as soon as nothing runs it any more, and
//! what is written there is executed as the node's root the next time (CVE-2019-5736). So the shim executes itself a
//! second time before it does anything, from a copy of that mount which is read-only and attached nowhere. All that is
//! forked from it, and whatever of that executes `/proc/self/exe`, has the binary on that mount too.
//!
//! Such a mount stays as it is: the kernel changes, copies and attaches mounts only if they are in the caller's mount
//! namespace, or held by the descriptor that made them, which is closed before the execution. Opening the file for
//! writing through it fails with EROFS, whatever capabilities the opener has.
//! Unlike a copy in a sealed memfd it costs no memory: pages are the page cache's, as those of the file are.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{execve, execveat};

use crate::fault::{Fault, Result};
use tandem_confine::sys::mount::{self as mountfd, Change};

/// The binary that this process runs, also when its file has been replaced since.
pub const RUNNING: &str = "/proc/self/exe";
/// Name of the process, as the kernel would take it from the file's own name. Source: proc_pid_comm(5).
const PROCESS_NAME: &CStr = c"containerd-shim";
/// Variables of containerd's environment that the shim uses. The last one is where systemd's bus is, if elsewhere.
const VARIABLES: [&str; 4] = ["PATH", "TTRPC_ADDRESS", "GRPC_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS"];
/// What the names of the node's own settings for Tandem begin with.
const SETTINGS: &str = "TANDEM_";

/// Makes sure that this process runs the protected binary and has inherited nothing but its standard streams and the
/// variables that it uses. Executes the binary anew if need be, and then does not return. To be called before anything
/// else: whatever is open is closed.
pub fn protect() -> Result<()> {
    close_inherited().map_err(|error| refusal("close what it has inherited", &error))?;
    let running = open(Path::new(RUNNING)).map_err(|error| refusal("open its own binary", &error))?;
    if is_protected(&running).map_err(|error| refusal("find out what it was executed from", &error))? {
        let _ = nix::sys::prctl::set_name(PROCESS_NAME);
        return Ok(());
    }
    let copy = copy_of(Path::new(RUNNING)).map_err(|error| refusal("copy the mount of its own binary", &error))?;
    let args = std::env::args_os().map(c_string).collect::<io::Result<Vec<_>>>();
    let args = args.map_err(|error| refusal("pass its arguments on", &error))?;
    let Err(error) = execute(&copy, &args, &environment(std::env::vars_os()));
    Err(refusal("execute itself from a copy of its binary's mount", &error))
}

/// The binary that this process runs, on a mount that is read-only and attached nowhere. It can only be executed.
pub fn protected() -> io::Result<OwnedFd> {
    let running = open(Path::new(RUNNING))?;
    if is_protected(&running)? {
        return Ok(running);
    }
    copy_of(Path::new(RUNNING))
}

/// Executes `binary`; returns only if that fails.
pub fn execute(binary: &OwnedFd, args: &[CString], env: &[CString]) -> io::Result<Infallible> {
    match execveat(binary, c"", args, env, AtFlags::AT_EMPTY_PATH) {
        Ok(never) => Ok(never),
        // A seccomp profile may know execve only.
        Err(Errno::EPERM | Errno::ENOSYS) => Ok(execve(&c_string(link(binary).into())?, args, env)?),
        Err(errno) => Err(errno.into()),
    }
}

/// What makes a mount one that nobody can write through.
pub fn read_only() -> Change<'static> {
    Change {
        set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        ..Change::default()
    }
}

/// The file at `path` on a mount of its own, as [`is_protected`] wants it.
fn copy_of(path: &Path) -> io::Result<OwnedFd> {
    let mount = mountfd::copy(path, false)?;
    mountfd::change(mount.as_fd(), &read_only())?;
    let file = open(Path::new(&link(&mount)))?;
    // As long as this is open the mount can be changed through it, by whoever gets hold of it.
    drop(mount);
    if is_protected(&file)? {
        return Ok(file);
    }
    Err(io::Error::other(
        "the copy is not read-only and apart from all other mounts",
    ))
}

/// Whether the mount that `file` was opened on is read-only and will stay so: it has no parent. The kernel tells that
/// by the file's path, which is made of the names on the way up to the root. A file whose path has no name at all is
/// its mount's root, and that mount has no place. (The root of a mount namespace is a directory.)
fn is_protected(file: &OwnedFd) -> io::Result<bool> {
    let path = std::fs::read_link(link(file))?;
    // The second one is that of a file which has been replaced or removed since.
    let is_nowhere = [Path::new("/"), Path::new("/ (deleted)")].contains(&path.as_path());
    let is_file = File::from(file.try_clone()?).metadata()?.is_file();
    Ok(is_nowhere && is_file && is_mount_root(file)? && fstatvfs(file)?.flags().contains(FsFlags::ST_RDONLY))
}

fn is_mount_root(file: &OwnedFd) -> io::Result<bool> {
    Ok(mountfd::is_mount_root_of(file.as_fd())?)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let mut options = File::options();
    let file = options.read(true).custom_flags(libc::O_PATH).open(path)?;
    Ok(file.into())
}

fn link(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Closes all descriptors but the standard streams. What containerd has open without close-on-exec, or was given by its
/// service manager, would else reach every container.
fn close_inherited() -> nix::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: plain numbers. Nothing of this program has opened a descriptor yet, as the caller of `protect` sees to.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) }).map(drop)
}

/// What of `variables` the shim needs. The rest is containerd's own affair: credentials of a proxy, sockets that its
/// service manager passes (`LISTEN_FDS`), settings of its Go runtime.
fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<CString> {
    let is_needed = |name: &str| VARIABLES.contains(&name) || name.starts_with(SETTINGS);
    let needed = variables.filter(|(name, _)| name.to_str().is_some_and(is_needed));
    let lines = needed.filter_map(|(name, value)| {
        let mut line = name;
        line.push("=");
        line.push(value);
        c_string(line).ok()
    });
    lines.collect()
}

fn c_string(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}

fn refusal(what: &str, error: &dyn std::fmt::Display) -> Fault {
    Fault::precondition(format!(
        "cannot {what}: {error}; the shim does not run where a container could overwrite its binary: it needs \
         Linux 5.12 or later, CAP_SYS_ADMIN, and a /proc"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn refused(result: io::Result<impl std::fmt::Debug>) -> i32 {
        result.unwrap_err().raw_os_error().unwrap()
    }

    #[test]
    fn the_copy_can_be_neither_written_nor_changed_nor_attached_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        // One that does not run: the kernel refuses to open one that does before it looks at the mount.
        let binary = dir.path().join("binary");
        std::fs::write(&binary, "x").unwrap();
        let copy = copy_of(&binary).unwrap();
        let through = link(&copy);
        let through = Path::new(&through);
        assert_eq!(std::fs::read(through).unwrap(), b"x");
        assert_eq!(refused(File::options().write(true).open(through)), libc::EROFS);
        assert_eq!(
            refused(File::options().read(true).write(true).open(through)),
            libc::EROFS
        );
        let mode = std::fs::Permissions::from_mode(0o777);
        assert_eq!(refused(std::fs::set_permissions(through, mode)), libc::EROFS);
        let writable = Change {
            clear: libc::MOUNT_ATTR_RDONLY,
            ..Change::default()
        };
        assert_eq!(
            refused(mountfd::change(copy.as_fd(), &writable).map_err(Into::into)),
            libc::EINVAL
        );
        assert_eq!(refused(mountfd::copy(through, false).map_err(Into::into)), libc::EINVAL);
        let target = dir.path().join("target");
        std::fs::write(&target, "").unwrap();
        assert!(mountfd::attach(copy.as_fd(), &target).is_err());
        assert_eq!(std::fs::read(&binary).unwrap(), b"x");
    }

    #[test]
    fn only_a_read_only_mount_that_is_nowhere_counts() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("binary");
        std::fs::write(&binary, "x").unwrap();
        assert!(!is_protected(&open(&binary).unwrap()).unwrap());
        assert!(!is_protected(&open(Path::new("/")).unwrap()).unwrap());
        let writable = mountfd::copy(&binary, false).unwrap();
        assert!(!is_protected(&open(Path::new(&link(&writable))).unwrap()).unwrap());
        let copy = copy_of(&binary).unwrap();
        assert!(is_protected(&copy).unwrap());
        // An upgrade has removed the file.
        std::fs::remove_file(&binary).unwrap();
        assert!(is_protected(&copy).unwrap());
    }

    #[test]
    fn of_containerds_environment_only_what_the_shim_uses_stays() {
        let variables = [
            ("PATH", "/bin"),
            ("LISTEN_FDS", "1"),
            ("LISTEN_PID", "7"),
            ("NOTIFY_SOCKET", "/run/systemd/notify"),
            ("TANDEM_RUN_DIR", "/run/x"),
            ("HTTPS_PROXY", "http://user:password@proxy"),
            ("TTRPC_ADDRESS", "/run/t"),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let left = environment(variables.into_iter());
        let left: Vec<_> = left.iter().map(|line| line.to_str().unwrap()).collect();
        assert_eq!(left, ["PATH=/bin", "TANDEM_RUN_DIR=/run/x", "TTRPC_ADDRESS=/run/t"]);
    }
}
