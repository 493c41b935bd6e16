//! What can go wrong, on which object, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use crate::digest::Digest;

/// The cache itself could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A directory that others could tamper with, or that is none.
    #[error("{} cannot hold compiled code: {why}; remove it or correct its owner and mode, it is created anew", path.display())]
    UnsafeDirectory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file system is full.
    #[error("no space left to {action} {}: free space on that file system or set a smaller size for the cache", path.display())]
    NoSpace {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl CacheError {
    /// Wraps the error of `action` on `path`; for use with `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EDQUOT) => Self::NoSpace {
                action,
                path: path.to_owned(),
            },
            _ => Self::Io {
                action,
                path: path.to_owned(),
                source,
            },
        }
    }
}

/// A verified artifact could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("cannot load the compiled code of {digest}: {reason}")]
pub struct LoadError {
    /// The source that the code was compiled from.
    pub digest: Digest,
    /// What wasmtime says.
    pub reason: String,
}

/// A module could not be turned into an artifact.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The source could not be read.
    #[error("cannot read {name}")]
    Unreadable {
        /// The source's name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The source is not Wasm: empty, another format, cut short.
    #[error("{name} is not a WebAssembly module or component: {why}")]
    NotWasm {
        /// The source's name.
        name: String,
        /// What it is instead.
        why: String,
    },
    /// The source is native code.
    #[error(
        "{name} is {what}: Tandem runs only code that it has compiled itself; push the .wasm file that it was made from"
    )]
    Native {
        /// The source's name.
        name: String,
        /// The kind of native code.
        what: &'static str,
    },
    /// The source is larger than [`Limits`](crate::Limits) allow.
    #[error("{name} has {size} bytes, more than the {limit} bytes allowed for a {form}; make it smaller")]
    TooLarge {
        /// The source's name.
        name: String,
        /// "binary module" or "module in text format".
        form: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The source does not have the promised digest.
    #[error(
        "{name} has the digest {actual} where {expected} was promised: its content was changed; pull the image again"
    )]
    DigestMismatch {
        /// The source's name.
        name: String,
        /// The digest that the image names.
        expected: Digest,
        /// The digest of what was read.
        actual: Digest,
    },
    /// Validation or code generation refused the module.
    #[error("{name} does not compile: {reason}")]
    Invalid {
        /// The source's name.
        name: String,
        /// What the compiler says, with the offset or the line.
        reason: String,
    },
    /// The compiler did not finish in time.
    #[error(
        "compiling {name} took longer than {limit:?} and was stopped; the processors of this node are busy, and the next start tries again"
    )]
    Timeout {
        /// The source's name.
        name: String,
        /// The wall-clock limit.
        limit: Duration,
    },
    /// The compiler used up its CPU time.
    #[error("compiling {name} used more than {limit:?} of CPU time and was stopped; make the module smaller")]
    CpuTime {
        /// The source's name.
        name: String,
        /// The limit.
        limit: Duration,
    },
    /// The compiler used up its memory.
    #[error("compiling {name} needed more than {limit} bytes of memory and was stopped; make the module smaller")]
    Memory {
        /// The source's name.
        name: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The compiled code is larger than [`Limits`](crate::Limits) allow.
    #[error("the compiled code of {name} is larger than {limit} bytes; make the module smaller")]
    ArtifactTooLarge {
        /// The source's name.
        name: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The compiler crashed, which is a defect of the compiler.
    #[error("the compiler crashed on {name} ({how}): {detail}; please report it with the module")]
    Crashed {
        /// The source's name.
        name: String,
        /// Its exit code or signal.
        how: String,
        /// The end of what it printed.
        detail: String,
    },
    /// The caller has threads, and so must not fork.
    #[error("cannot compile {name} in a process with {threads} threads: compile in a single-threaded one")]
    Threaded {
        /// The source's name.
        name: String,
        /// How many.
        threads: usize,
    },
    /// The compiler's process could not be started, confined or supervised.
    #[error("cannot run the compiler for {name}: {step}")]
    Worker {
        /// The source's name.
        name: String,
        /// What was attempted.
        step: String,
        /// Why it failed, where this process has seen it.
        #[source]
        source: Option<io::Error>,
    },
    /// Another process tried while this one waited, and failed.
    #[error("{reason} (compiled by another process at the same time)")]
    Elsewhere {
        /// That process's error.
        reason: String,
        /// Whether the module was at fault there.
        module_fault: bool,
    },
    /// Another process has been compiling the same module for too long.
    #[error("gave up after {waited:?} of waiting for another process that compiles {name}; try again")]
    Busy {
        /// The source's name.
        name: String,
        /// How long.
        waited: Duration,
    },
    /// The cache could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl CompileError {
    /// Whether the module itself is at fault, so that trying again cannot help: an invalid argument in terms of
    /// gRPC. All others are conditions of this node.
    pub fn is_module_fault(&self) -> bool {
        matches!(
            self,
            Self::NotWasm { .. }
                | Self::Native { .. }
                | Self::TooLarge { .. }
                | Self::DigestMismatch { .. }
                | Self::Invalid { .. }
                | Self::ArtifactTooLarge { .. }
                | Self::Elsewhere { module_fault: true, .. }
        )
    }
}
