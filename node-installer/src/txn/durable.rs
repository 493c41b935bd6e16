//! Single changes of the file system that are atomic and on disk when they return.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink},
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

/// Ends the name of a file that is not complete yet. It must not end in `.toml`: containerd reads every file of a
/// drop-in directory that does, hidden or not.
const SUFFIX: &str = ".tandem-new";

/// The name under which the next content of `path` is written.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(SUFFIX);
    path.with_file_name(name)
}

/// Puts the directory entry on disk.
pub(super) fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let dir = File::open(parent).map_err(Error::io("open", parent))?;
    dir.sync_all().map_err(Error::io("sync", parent))
}

/// Where a file's content comes from.
pub(super) enum Source<'a> {
    Bytes(&'a [u8]),
    File(&'a Path),
}

/// Writes a file so that `path` has either its old or its new content, whenever the machine stops.
///
/// # Errors
/// The kernel's.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace(path, &Source::Bytes(bytes), mode, None, None)
}

/// As [`write_atomic`], with owner and, where `label_from` names a file, that file's SELinux label.
pub(super) fn replace(
    path: &Path,
    source: &Source<'_>,
    mode: u32,
    owner: Option<(u32, u32)>,
    label_from: Option<&Path>,
) -> Result<()> {
    let new = temporary(path);
    discard(&new)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
    let mut file = file.map_err(Error::io("create", &new))?;
    match source {
        Source::Bytes(bytes) => file.write_all(bytes).map_err(Error::io("write", &new))?,
        Source::File(from) => {
            let mut from_file = File::open(from).map_err(Error::io("open", *from))?;
            io::copy(&mut from_file, &mut file).map_err(Error::io("write", &new))?;
        }
    }
    if let Some((uid, gid)) = owner
        && file.metadata().is_ok_and(|meta| (meta.uid(), meta.gid()) != (uid, gid))
    {
        fchown(&file, Some(uid), Some(gid)).map_err(Error::io("change the owner of", &new))?;
    }
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(Error::io("change the mode of", &new))?;
    if let Some(from) = label_from {
        super::super::selinux::copy_label(from, &new)?;
    }
    file.sync_all().map_err(Error::io("sync", &new))?;
    drop(file);
    fs::rename(&new, path).map_err(Error::io("replace", path))?;
    sync_parent(path)
}

/// Makes a symbolic link, or turns one, in one step.
pub(super) fn link(path: &Path, target: &Path) -> Result<()> {
    let new = temporary(path);
    discard(&new)?;
    symlink(target, &new).map_err(Error::io("link", &new))?;
    fs::rename(&new, path).map_err(Error::io("replace", path))?;
    sync_parent(path)
}

/// Makes a directory that anyone may read; one that exists is fine.
pub(super) fn make_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        Err(error) => return Err(Error::io("create", path)(error)),
    }
    // The mode given at creation is subject to the caller's umask.
    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(Error::io("change the mode of", path))?;
    sync_parent(path)
}

/// Removes a file or link; its absence is fine.
pub(super) fn discard(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        Err(error) => Err(Error::io("remove", path)(error)),
    }
}

/// Removes a directory if nothing is in it; answers whether it is gone.
pub(super) fn discard_dir(path: &Path) -> Result<bool> {
    match fs::remove_dir(path) {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => Ok(true),
            // A mount point of the installer's own pod is busy: the directory stays, empty.
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::ResourceBusy => Ok(false),
            _ => Err(Error::io("remove", path)(error)),
        },
    }
}

/// Removes `path` and the directories above it up to `top` as far as they are empty.
///
/// # Errors
/// The kernel's, other than that a directory is not empty.
pub fn remove_tree_if_empty(path: &Path, top: &Path) -> Result<()> {
    for dir in path.ancestors().take_while(|dir| dir.starts_with(top)) {
        if !discard_dir(dir)? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_file_is_none_that_containerd_reads() {
        let name = temporary(Path::new("/etc/containerd/conf.d/tandem.toml"));
        assert!(!name.to_string_lossy().ends_with(".toml"), "{name:?}");
    }

    #[test]
    fn a_file_keeps_mode_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_atomic(&path, b"1", 0o640).unwrap();
        fs::write(temporary(&path), "left by a killed installer").unwrap();
        write_atomic(&path, b"2", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_with_content_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        assert!(!discard_dir(dir.path()).unwrap());
        assert!(dir.path().exists());
    }
}
