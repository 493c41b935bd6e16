//! `tmpcopyup`: a new tmpfs begins with a copy of the directory that it covers.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat, mknodat};
use nix::unistd::{fchownat, symlinkat};

use crate::error::errno_of;
use crate::root::tree::{kind_of, look_here, open_here};

/// Deeper trees are refused: each level is a call and two descriptors.
const MAX_DEPTH: u32 = 64;

/// Copies what is below `from` to `to`: files, directories, links, devices and pipes with owners and permissions.
pub fn fill(from: &OwnedFd, to: &OwnedFd) -> nix::Result<()> {
    copy_directory(from, to, MAX_DEPTH)
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, depth: u32) -> nix::Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::ELOOP)?;
    let mut entries = Dir::openat(from, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
    for entry in entries.iter() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            copy_entry(from, to, entry.file_name(), depth)?;
        }
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: u32) -> nix::Result<()> {
    let name = OsStr::from_bytes(name.to_bytes());
    let stat = look_here(from, name)?;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    match kind_of(&stat) {
        SFlag::S_IFDIR => {
            mkdirat(to, name, mode)?;
            let below = open_here(from, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            let copy = open_here(to, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            copy_directory(&below, &copy, depth)?;
        }
        SFlag::S_IFREG => copy_file(from, to, name, mode)?,
        SFlag::S_IFLNK => {
            let target = readlinkat(from, name)?;
            symlinkat(target.as_os_str(), to, name)?;
        }
        kind => mknodat(to, name, kind, mode, stat.st_rdev)?,
    }
    finish(to, name, &stat)
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &OsStr, mode: Mode) -> nix::Result<()> {
    let mut source = File::from(open_here(from, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
    if kind_of(&fstat(source.as_fd())?) != SFlag::S_IFREG {
        return Err(Errno::ESTALE);
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut copy = File::from(openat(to, name, flags, mode)?);
    std::io::copy(&mut source, &mut copy).map(drop).map_err(errno_of)
}

/// Owner, then permissions, as a change of owner clears set-id bits.
fn finish(to: &OwnedFd, name: &OsStr, stat: &FileStat) -> nix::Result<()> {
    let (owner, group) = (stat.st_uid.into(), stat.st_gid.into());
    fchownat(to, name, Some(owner), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if kind_of(stat) == SFlag::S_IFLNK {
        return Ok(());
    }
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    // The file system is new, and nobody else has it: the name cannot have become a link.
    nix::sys::stat::fchmodat(to, name.as_c_str(), mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_tree_is_copied_with_links_and_permissions() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(from.path().join("d")).unwrap();
        std::fs::write(from.path().join("d/f"), "text").unwrap();
        std::fs::set_permissions(from.path().join("d/f"), std::fs::Permissions::from_mode(0o4750)).unwrap();
        symlink("/nowhere", from.path().join("l")).unwrap();
        let open = |path| nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        fill(&open(from.path()), &open(to.path())).unwrap();
        assert_eq!(std::fs::read_to_string(to.path().join("d/f")).unwrap(), "text");
        assert_eq!(
            std::fs::metadata(to.path().join("d/f")).unwrap().mode() & 0o7777,
            0o4750
        );
        assert_eq!(
            std::fs::read_link(to.path().join("l")).unwrap().to_str(),
            Some("/nowhere")
        );
    }
}
