//! What is at a path, and a change of it.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    host::Host,
};

/// Hexadecimal SHA-256.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The same of a file, read part by part.
///
/// # Errors
/// A file that cannot be read.
pub fn digest_of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What is at a path of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum State {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// SHA-256 of its content.
        digest: String,
        /// Permission bits.
        mode: u32,
        /// Owner and group.
        owner: (u32, u32),
    },
    /// A symbolic link.
    Link {
        /// What it holds.
        target: PathBuf,
    },
    /// A directory; its content is not part of the state.
    Dir,
}

impl State {
    /// What is at `path` now.
    ///
    /// # Errors
    /// What is neither absent, file, link nor directory, and what cannot be read.
    pub fn of(host: &Host, path: &Path) -> Result<Self> {
        let here = host.path_of_link(path)?;
        let meta = match fs::symlink_metadata(&here) {
            Ok(meta) => meta,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Self::Absent);
            }
            Err(error) => return Err(Error::io("inspect", here)(error)),
        };
        if meta.is_dir() {
            return Ok(Self::Dir);
        }
        if meta.is_symlink() {
            let target = fs::read_link(&here).map_err(Error::io("read link", &here))?;
            return Ok(Self::Link { target });
        }
        if !meta.is_file() {
            let why = io::Error::other("neither a file, a link nor a directory");
            return Err(Error::io("replace", here)(why));
        }
        Ok(Self::File {
            digest: digest_of_file(&here).map_err(Error::io("read", &here))?,
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
        })
    }
}

/// What a changed file is for; it decides whether containerd must be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Part of containerd's configuration: takes effect at its next start.
    Config,
    /// The shim, what it reads, and directories: takes effect by itself.
    File,
}

/// One change of one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The path on the host.
    pub path: PathBuf,
    /// What the file is for.
    pub role: Role,
    /// What was there when the operation began: where its rollback goes.
    pub before: State,
    /// What the operation leaves.
    pub after: State,
    /// What there would be without Tandem: where an uninstall goes. Differs from `before` where an earlier version of
    /// Tandem had written the file already.
    pub pristine: State,
}

/// Whether containerd reads its configuration differently after these changes.
pub fn changes_config(changes: &[Change]) -> bool {
    let config = |change: &Change| change.role == Role::Config && change.after != State::Dir;
    changes
        .iter()
        .any(|change| config(change) && change.before != change.after)
}
