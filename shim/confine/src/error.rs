//! What can go wrong on the way into a container. Each error names the object it is about, and what the kernel said.

use std::path::PathBuf;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Bytes of either half of an error. Escaped in JSON, both still fit into a message.
const MAX_TEXT: usize = 4096;

/// Result of the steps.
pub type Result<T> = std::result::Result<T, Error>;

/// What the kernel answers when the node is short of something.
const SHORTAGES: [Errno; 7] = [
    Errno::ENOSPC,
    Errno::EDQUOT,
    Errno::EMFILE,
    Errno::ENFILE,
    Errno::EAGAIN,
    Errno::ENOMEM,
    Errno::EUSERS,
];

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Who has to do something about it.
    pub class: Class,
    /// The object, and what was to be done with it.
    pub what: String,
    /// The reason, and the remedy where there is one.
    pub why: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.what.as_str(), self.why.as_str()) {
            (what, "") => f.write_str(what),
            (what, why) => write!(f, "{what}: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// Classes of errors, after which a caller chooses its status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// The spec or the image cannot work, however often it is tried.
    Invalid,
    /// A file that the spec names does not exist.
    NotFound,
    /// The node or the container is not in the state that is needed.
    Precondition,
    /// The node is short of something.
    Exhausted,
    /// A peer cannot be reached at the moment.
    Unavailable,
    /// Nothing that this runtime does.
    Unsupported,
    /// The host failed.
    Internal,
}

/// Names come from a hostile image, and an error has to fit into a message.
fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push('…');
    }
    text
}

impl Error {
    /// An error of `class`.
    pub fn new(class: Class, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            class,
            what: cut(what.into()),
            why: cut(why.into()),
        }
    }

    /// The spec asks for what cannot be.
    pub fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Class::Invalid, what, why)
    }

    /// The kernel refused: a shortage is the node's, anything else is of `class`.
    pub fn kernel(class: Class, what: impl Into<String>, errno: Errno) -> Self {
        let class = if SHORTAGES.contains(&errno) {
            Class::Exhausted
        } else {
            class
        };
        Self::new(class, what, errno.desc())
    }

    /// The kernel refused a new process.
    pub fn fork(what: impl Into<String>, errno: Errno) -> Self {
        let error = Self::host(what, errno);
        match errno {
            Errno::EAGAIN => Self {
                why: "the node or the pod is out of processes (EAGAIN): raise the limit of PIDs".into(),
                ..error
            },
            _ => error,
        }
    }

    /// The kernel refused something that should work on every node.
    pub fn host(what: impl Into<String>, errno: Errno) -> Self {
        Self::kernel(Class::Internal, what, errno)
    }
}

/// Turns the kernel's answer into an error about an object.
pub trait Named<T> {
    /// What the spec asked for, and the kernel refused.
    fn asked(self, what: impl FnOnce() -> String) -> Result<T>;
    /// What should work on every node.
    fn host(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Named<T> for nix::Result<T> {
    fn asked(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| {
            let class = match errno {
                Errno::ENOENT | Errno::ENOTDIR => Class::NotFound,
                _ => Class::Invalid,
            };
            Error::kernel(class, what(), errno)
        })
    }

    fn host(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::host(what(), errno))
    }
}

impl<T> Named<T> for std::io::Result<T> {
    fn asked(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(errno_of).asked(what)
    }

    fn host(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(errno_of).host(what)
    }
}

/// The kernel's number in an error of the standard library's; EIO where it has none.
pub fn errno_of(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// A path as a message shows it.
pub fn shown(path: &std::path::Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

/// As [`shown`], of an optional path.
pub fn shown_source(path: Option<&PathBuf>) -> String {
    path.map_or_else(|| "none".into(), |path| shown(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_the_nodes_whoever_asked() {
        let refused: nix::Result<()> = Err(Errno::ENOSPC);
        assert_eq!(refused.asked(|| "mount /a".into()).unwrap_err().class, Class::Exhausted);
        let refused: nix::Result<()> = Err(Errno::EINVAL);
        let error = refused.asked(|| "mount /a".into()).unwrap_err();
        assert_eq!(error.class, Class::Invalid);
        assert_eq!(error.to_string(), "mount /a: Invalid argument");
    }
}
