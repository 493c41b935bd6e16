//! Files of the host that specs mount. Each run of a spec has its own, so that no run sees what another has written.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tandem_integration::{Error, NetNs, Result};

/// A directory with:
///
/// | path | is |
/// |---|---|
/// | `dir` | a directory with `file` and `below`, which is a mount of its own |
/// | `file` | a file |
/// | `private` | a directory and a file in it that are root's alone |
/// | `link` | a symbolic link to `dir` |
/// | `flagged` | a mount with nosuid, nodev, noexec |
/// | `shared` | a mount that propagates |
/// | `bin` | busybox as `sh`, for hooks |
/// | `out` | a directory that anyone may write to |
pub struct Stage {
    dir: tempfile::TempDir,
    mounts: Vec<PathBuf>,
    /// A network namespace to join.
    pub netns: NetNs,
}

impl Stage {
    /// Makes everything, in a directory that is swept away should the test be killed.
    pub fn new(home: &Path, netns: NetNs) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("stage-").tempdir_in(home);
        let dir = dir.map_err(Error::system("cannot make", "a directory for mounts"))?;
        let mut stage = Self {
            dir,
            mounts: Vec::new(),
            netns,
        };
        stage.fill().map_err(Error::system("cannot fill", stage.dir.path()))?;
        Ok(stage)
    }

    /// A path of the stage; empty for its root.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        mode(self.dir.path(), 0o711)?;
        for name in ["dir", "dir/below", "private", "flagged", "shared", "bin", "out"] {
            fs::create_dir(self.path(name))?;
        }
        for name in ["dir/file", "file", "private/file"] {
            fs::write(self.path(name), "content\n")?;
        }
        chown(self.path("dir/file"), Some(1000), Some(1000))?;
        for name in ["private", "private/file"] {
            mode(&self.path(name), 0o700)?;
        }
        mode(&self.path("out"), 0o777)?;
        symlink("dir", self.path("link"))?;
        fs::copy("/bin/busybox", self.path("bin/busybox"))?;
        symlink("busybox", self.path("bin/sh"))?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        self.tmpfs("flagged", flags)?;
        self.tmpfs("dir/below", MsFlags::empty())?;
        self.tmpfs("shared", MsFlags::empty())?;
        let none = None::<&str>;
        mount(none, &self.path("shared"), none, MsFlags::MS_SHARED, none)?;
        Ok(())
    }

    fn tmpfs(&mut self, name: &str, flags: MsFlags) -> std::io::Result<()> {
        let path = self.path(name);
        mount(Some("stage"), &path, Some("tmpfs"), flags, None::<&str>)?;
        self.mounts.push(path);
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for path in self.mounts.iter().rev() {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
    }
}
