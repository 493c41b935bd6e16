//! What can go wrong while a test drives containerd, with the gRPC status kept for tests that expect it.

use std::{fmt, io, path::PathBuf, time::Duration};

use tonic::{Code, Status};

/// Result of every call of the harness.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the harness or of a call it made.
#[derive(thiserror::Error)]
pub enum Error {
    /// containerd answered a call with an error: the one kind that tests look into, by
    /// [`Error::code`] and [`Error::message`].
    #[error("{call} of {object:?} failed with {:?}: {}", .status.code(), .status.message())]
    Call {
        /// The call, such as `tasks.Create`.
        call: &'static str,
        /// Id or name of what the call was about.
        object: String,
        /// containerd's answer.
        status: Box<Status>,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {after:?}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The kernel refused an operation on a file, a mount, a namespace or a process.
    #[error("{what} {path}: {source}", path = .path.display())]
    System {
        /// The operation, such as `cannot create`.
        what: &'static str,
        /// Its object.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The private containerd cannot be started or talked to.
    #[error("{0}")]
    Setup(String),
    /// After a test something of its instance still exists.
    #[error("left behind: {}", .0.iter().map(|l| format!("\n  {l}")).collect::<String>())]
    Leftovers(Vec<crate::Leftover>),
}

impl Error {
    /// The gRPC code of a failed call, `None` for every other failure.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call { status, .. } => Some(status.code()),
            _ => None,
        }
    }

    /// The message of a failed call as containerd sent it, or this error as text.
    pub fn message(&self) -> String {
        match self {
            Self::Call { status, .. } => status.message().to_owned(),
            other => other.to_string(),
        }
    }

    /// For `map_err` on an I/O result: names the operation and its object.
    pub fn system<E: Into<io::Error>>(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::System {
            what,
            path,
            source: source.into(),
        }
    }
}

/// A test that answers `Result` prints its error with `Debug`: that must be the sentence, not the structure.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
