//! What can go wrong with a cgroup.

use std::io;
use std::path::PathBuf;

/// Names the file, what was done to it and, where there is one, the value.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    /// A file or directory refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `create`, `read`, `write "…" to`.
        action: String,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A limit needs a controller that the node does not have.
    #[error("the node has no cgroup controller \"{controller}\", which {file} needs: remove that limit or enable it")]
    NoController {
        /// The controller.
        controller: &'static str,
        /// The limit's file.
        file: String,
    },
    /// A name in the spec's `unified` resources is a path.
    #[error("\"{0}\" in the unified resources is not the name of a cgroup file")]
    NotAFileName(String),
    /// The processes did not come to rest.
    #[error("the processes in {path} cannot be frozen: the kernel still says {state}")]
    NotFrozen {
        /// The cgroup's directory.
        path: PathBuf,
        /// What the kernel says of them.
        state: String,
    },
    /// The name of a cgroup that systemd is to make.
    #[error(
        "\"{0}\" is not slice:prefix:name, which the systemd driver needs: the kubelet's and containerd's cgroup drivers differ"
    )]
    NotAUnit(String),
    /// systemd refused or cannot be reached.
    #[error("systemd: {0}")]
    Systemd(String),
    /// The original's statistics.
    #[error("{0}")]
    Stats(String),
}

impl Error {
    /// A closure for `map_err`.
    pub(crate) fn io(action: impl Into<String>, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let (action, path) = (action.into(), path.into());
        move |source| Self::Io { action, path, source }
    }
}
