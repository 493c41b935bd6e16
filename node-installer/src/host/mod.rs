//! The host as the installer sees it: a directory that its root file system is mounted on, and a way to run the host's
//! own programs. In a pod the root is `/host`; on the host itself it is `/`.

mod command;
mod lock;
mod os;
mod resolve;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

pub use command::Finished;
pub use lock::Lock;
pub use os::{CgroupMode, Os, cgroup_mode};

/// A host's root file system. All paths that other modules hold are the host's own; this type alone maps them to the
/// paths by which this process reaches them.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    /// Whether programs are run with [`Host::root`] as their root directory.
    chroot: bool,
}

impl Host {
    /// The host whose root is mounted on `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self {
            chroot: root != Path::new("/"),
            root,
        }
    }

    /// A directory that merely looks like a host: its programs are run in this process's own root, because what they
    /// need beside themselves is there. For tests on trees with a few files.
    pub fn tree(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            chroot: false,
        }
    }

    /// Where the host's root is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path by which this process reaches `path` of the host; symbolic links are followed as the host would.
    ///
    /// # Errors
    /// A loop of links.
    pub fn path(&self, path: &Path) -> Result<PathBuf> {
        resolve::in_root(&self.root, path, true).map_err(Error::io("resolve", path))
    }

    /// As [`Host::path`], but the last component is not followed when it is a link.
    ///
    /// # Errors
    /// As [`Host::path`].
    pub fn path_of_link(&self, path: &Path) -> Result<PathBuf> {
        resolve::in_root(&self.root, path, false).map_err(Error::io("resolve", path))
    }

    /// The path that a program run by [`Host::run`] must be given for `path`.
    pub fn seen_by_programs(&self, path: &Path) -> PathBuf {
        // A bare name is looked for in the search path.
        if self.chroot || self.root == Path::new("/") || path.is_relative() {
            return path.to_owned();
        }
        self.path(path).unwrap_or_else(|_| path.to_owned())
    }

    /// Whether anything is at `path`.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path.as_ref())
            .is_ok_and(|path| path.symlink_metadata().is_ok())
    }

    /// The content of a file, `None` where there is none.
    ///
    /// # Errors
    /// The kernel's, other than the file's absence.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let path = self.path(path)?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// The text of a file, `None` where there is none.
    ///
    /// # Errors
    /// As [`Host::read`], and text that is not UTF-8.
    pub fn read_text(&self, path: &Path) -> Result<Option<String>> {
        let Some(bytes) = self.read(path)? else { return Ok(None) };
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| Error::Config {
            path: path.to_owned(),
            why: "is not UTF-8".into(),
            fix: "correct or remove the file".into(),
        })?;
        Ok(Some(text))
    }
}
