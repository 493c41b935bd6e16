//! What can go wrong on a node. Every message names the object, the cause and what to do about it, because the first
//! person to read it looks at a Node event and not at this source.

use std::{fmt, io, path::PathBuf, time::Duration};

/// Result of everything that touches the node.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, by the kind of remedy it asks for.
#[derive(thiserror::Error)]
pub enum Error {
    /// The command line makes no sense.
    #[error("{0}; `tandem-node-installer help` lists the commands and options")]
    Usage(String),
    /// This host cannot be set up by an installer; nothing was written.
    #[error("{host} is not supported: {why}. Nothing was changed. Instead: {instead}")]
    Refused {
        /// The distribution, by its preset's name.
        host: String,
        /// What is in the way.
        why: String,
        /// What to do instead.
        instead: String,
    },
    /// The kernel refused an operation on a file.
    #[error("cannot {what} {path}: {source}", path = .path.display())]
    Io {
        /// The operation, such as `write`.
        what: &'static str,
        /// Its object, as this process sees it.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A containerd configuration that cannot be edited safely.
    #[error("containerd's configuration {path}: {why}; {fix}", path = .path.display())]
    Config {
        /// The file, as the host sees it.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        fix: String,
    },
    /// The staged configuration is not what was intended; the node's files were not touched.
    #[error("the staged configuration was refused, nothing was changed: {0}")]
    Validation(String),
    /// A program of the host failed.
    #[error("`{command}` {why}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended, with the end of its output.
        why: String,
    },
    /// The node does not do what it must before pods may be sent to it.
    #[error("verification failed at {step}: {why}")]
    Verify {
        /// The step.
        step: &'static str,
        /// What was seen instead.
        why: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {} s", .after.as_secs())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// containerd or its CRI service refused a call.
    #[error("{call} failed with {:?}: {}", .status.code(), .status.message())]
    Call {
        /// The call, such as `RunPodSandbox`.
        call: &'static str,
        /// The answer.
        status: Box<tonic::Status>,
    },
    /// The Kubernetes API refused a request.
    #[error("{what}: {source}")]
    Kubernetes {
        /// The request.
        what: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// Another installer works on this host.
    #[error("another installer works on this host (it holds {}); wait for it, or end it", .0.display())]
    Locked(PathBuf),
    /// Pods would lose their runtime.
    #[error("{0}")]
    InUse(String),
    /// The installer's own records are not readable.
    #[error("the record {path} is not usable: {why}; it was written by another version or damaged: {fix}", path = .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What to do.
        fix: &'static str,
    },
    /// A failure after which the earlier state was restored, or not.
    #[error("{cause}. {outcome}")]
    RolledBack {
        /// What failed.
        cause: Box<Error>,
        /// What became of the node.
        outcome: String,
    },
}

impl Error {
    /// For `map_err` on an I/O result.
    pub(crate) fn io<E: Into<io::Error>>(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Io {
            what,
            path,
            source: source.into(),
        }
    }

    /// For `map_err` on a gRPC call.
    pub(crate) fn call(call: &'static str) -> impl FnOnce(tonic::Status) -> Self {
        move |status| Self::Call {
            call,
            status: Box::new(status),
        }
    }

    /// For `map_err` on a Kubernetes request.
    pub(crate) fn kubernetes(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Kubernetes {
            what,
            source: Box::new(source),
        }
    }

    /// A word for the reason of a Kubernetes event, `CamelCase` as events have it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "TandemUnsupported",
            Self::Verify { .. } => "TandemVerifyFailed",
            Self::Validation(_) | Self::Config { .. } => "TandemConfigRefused",
            Self::InUse(_) => "TandemInUse",
            Self::RolledBack { cause, .. } => cause.reason(),
            _ => "TandemInstallFailed",
        }
    }
}

/// `main` prints errors with `Debug` where it answers them: that must be the sentence.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
