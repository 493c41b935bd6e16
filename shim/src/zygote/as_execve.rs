//! What an execve would do to a process, for a guest that is not executed but forked.

use std::os::fd::RawFd;

use caps::CapSet;
use nix::errno::Errno;

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

/// What the zygote has open for its guests' sake: files without a name, which are the engine's images of initial memory, and
/// files open for reading only on a read-only mount. All else is closed in a confined process: an image's names could lead
/// through it, and another container of the pod may see what is open in a process, in a shared PID namespace.
pub fn engine_fds() -> Vec<RawFd> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|fd| *fd > 2 && is_guests_own(*fd)).collect()
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
        assert!(engine_fds().contains(&image.as_raw_fd()));
    }
}
