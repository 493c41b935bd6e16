//! One installer at a time on a host: a kernel lock, which a killed installer cannot leave behind.

use std::{
    fs::{self, File, OpenOptions},
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};

use super::Host;
use crate::error::{Error, Result};

/// Held as long as an operation changes the host.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of the installer whose records are in `state`.
    ///
    /// # Errors
    /// [`Error::Locked`] where another holds it.
    pub fn take(host: &Host, state: &Path) -> Result<Self> {
        let dir = host.path(state)?;
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let path = dir.join("lock");
        loop {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let file = file.map_err(Error::io("open", &path))?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Err(Error::Locked(state.join("lock"))),
                Err((_, errno)) => return Err(Error::io("lock", path)(errno)),
            };
            // An uninstall may have removed the file between the two calls: then the lock is on nothing.
            if same_file(&file, &path) {
                return Ok(Self { _file: file });
            }
        }
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(held), Ok(named)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    (held.dev(), held.ino()) == (named.dev(), named.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_installer_is_told_who_is_in_the_way() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::tree(root.path());
        let first = Lock::take(&host, Path::new("/state")).unwrap();
        let error = Lock::take(&host, Path::new("/state")).unwrap_err();
        assert!(matches!(error, Error::Locked(_)), "{error}");
        drop(first);
        Lock::take(&host, Path::new("/state")).unwrap();
    }
}
