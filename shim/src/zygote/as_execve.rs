//! What an execve would do to a process, for a guest that is not executed but forked.

use std::os::fd::RawFd;

use caps::CapSet;
use nix::errno::Errno;

/// More descriptors than are opened between the zygote's start and the guest's.
const MARGIN: RawFd = 256;

/// Only ambient capabilities stay with a user other than root.
/// Source: capabilities(7), "Transformation of capabilities during execve".
pub fn reduce_capabilities() -> Result<(), caps::errors::CapsError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let ambient = caps::read(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &ambient)?;
    caps::set(None, CapSet::Permitted, &ambient)
}

/// The highest descriptor that is open, to be asked where `/proc` is the host's.
pub fn highest_fd() -> RawFd {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.max().unwrap_or(1024)
}

/// Closes what the shim has open besides the standard streams: another container of the pod may see
/// this process, and what is open in it, in a shared PID namespace. What stays are files open for reading only on a
/// read-only mount, which are the guest's compiled code; and files without a name, which are the engine's images of initial
/// memory and the cell of the memory limit.
///
/// `highest` is what [`highest_fd`] returned in the zygote.
pub fn close_inherited(highest: RawFd) {
    let last = highest.saturating_add(MARGIN);
    for fd in 3..=last {
        if !is_guests_own(fd) {
            // SAFETY: plain numbers. Their owners are never dropped in this process, which ends with exit().
            unsafe { libc::close(fd) };
        }
    }
    // SAFETY: plain numbers. Old kernels lack the call, and then there is nothing up there either.
    unsafe { libc::syscall(libc::SYS_close_range, last + 1, libc::c_uint::MAX, 0) };
}

fn is_guests_own(fd: RawFd) -> bool {
    // SAFETY: all-zero is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a plain number and a structure that outlives the call.
    if Errno::result(unsafe { libc::fstat(fd, &raw mut stat) }).is_err() || stat.st_mode & libc::S_IFMT != libc::S_IFREG
    {
        return false;
    }
    // SAFETY: plain numbers.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    let is_read_only = flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_PATH == 0;
    stat.st_nlink == 0 || is_read_only && is_on_read_only_mount(fd)
}

fn is_on_read_only_mount(fd: RawFd) -> bool {
    // SAFETY: all-zero is a valid statvfs.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a plain number and a structure that outlives the call.
    let found = Errno::result(unsafe { libc::fstatvfs(fd, &raw mut stat) });
    found.is_ok() && stat.f_flag & libc::ST_RDONLY != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn only_readers_on_a_read_only_mount_and_nameless_files_are_the_guests_own() {
        use std::os::fd::AsFd;
        use tandem_confine::sys::mount;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("code");
        let writer = std::fs::File::create(&path).unwrap();
        let reader = std::fs::File::open(&path).unwrap();
        let directory = std::fs::File::open(dir.path()).unwrap();
        let namespace = std::fs::File::open("/proc/self/ns/pid").unwrap();
        let copy = mount::copy(&path, false).unwrap();
        let read_only = mount::Change {
            set: libc::MOUNT_ATTR_RDONLY,
            ..mount::Change::default()
        };
        mount::change(copy.as_fd(), &read_only).unwrap();
        let code = std::fs::File::open(format!("/proc/self/fd/{}", copy.as_raw_fd())).unwrap();
        let image = nix::sys::memfd::memfd_create(c"image", nix::sys::memfd::MFdFlags::empty()).unwrap();
        assert!(is_guests_own(code.as_raw_fd()) && is_guests_own(image.as_raw_fd()));
        for fd in [
            writer.as_raw_fd(),
            reader.as_raw_fd(),
            directory.as_raw_fd(),
            namespace.as_raw_fd(),
        ] {
            assert!(!is_guests_own(fd));
        }
        assert!(highest_fd() >= image.as_raw_fd());
    }
}
