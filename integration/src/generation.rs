//! The two generations of containerd that everything must work with, and where their binaries are.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// A generation of containerd: they differ in configuration, in the reply they take from a shim's `start` and in
/// the Task service they call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Generation {
    /// containerd 1.6 or 1.7.
    V1,
    /// containerd 2.x.
    V2,
}

impl Generation {
    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// The binaries of this generation.
    ///
    /// # Errors
    /// [`Error::Setup`] names a binary that is missing and the variable that can name another.
    pub fn binaries(self) -> Result<Binaries> {
        let (containerd, variable) = match self {
            Self::V1 => {
                let file = env::var_os("TANDEM_CONTAINERD_V1");
                let file = file.map_or_else(|| "/usr/bin/containerd".into(), PathBuf::from);
                (file, "TANDEM_CONTAINERD_V1")
            }
            Self::V2 => {
                let dir = env::var_os("TANDEM_CONTAINERD_V2").map(PathBuf::from);
                let dir = dir.unwrap_or_else(|| cache_dir().join("containerd-2/bin"));
                (dir.join("containerd"), "TANDEM_CONTAINERD_V2")
            }
        };
        let directory = containerd.parent().unwrap_or(Path::new("/"));
        let binaries = Binaries {
            ctr: directory.join("ctr"),
            runc_shim: directory.join("containerd-shim-runc-v2"),
            containerd,
        };
        for file in [&binaries.containerd, &binaries.ctr, &binaries.runc_shim] {
            if !file.is_file() {
                return Err(Error::Setup(format!(
                    "{} for containerd {self} is missing; `make test` provides it, or let {variable} name another",
                    file.display(),
                )));
            }
        }
        Ok(binaries)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// The binaries of one generation, which belong together.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The daemon.
    pub containerd: PathBuf,
    /// Its command-line client.
    pub ctr: PathBuf,
    /// Its default shim.
    pub runc_shim: PathBuf,
}

/// The shim under test: `$TANDEM_SHIM` or the release build in the workspace's target directory.
pub fn tandem_shim() -> PathBuf {
    env::var_os("TANDEM_SHIM").map_or_else(
        || {
            let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
            target
                .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"))
                .join("release/containerd-shim-tandem-v1")
        },
        PathBuf::from,
    )
}

/// The installer under test: `$TANDEM_INSTALLER` or the release build in the workspace's target directory.
pub fn tandem_installer() -> PathBuf {
    env::var_os("TANDEM_INSTALLER").map_or_else(|| tandem_shim().with_file_name("tandem-node-installer"), PathBuf::from)
}

/// What test runs keep between each other: `$TANDEM_CACHE`, or `tandem` in the user's cache directory.
pub fn cache_dir() -> PathBuf {
    if let Some(dir) = env::var_os("TANDEM_CACHE") {
        return dir.into();
    }
    let user = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    user.unwrap_or_else(|| home().join(".cache")).join("tandem")
}
