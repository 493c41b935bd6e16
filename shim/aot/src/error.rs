//! What can go wrong, on which object, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use tandem_digest::Digest;

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
    /// All that it may hold is in use.
    #[error(
        "the cache {} is full: {used} bytes are in use by running containers, and {limit} are allowed (`max_bytes` in \
         `[cache]` of the node's configuration)", path.display()
    )]
    Full {
        /// The cache's directory.
        path: PathBuf,
        /// What is in use, in bytes.
        used: u64,
        /// What is allowed, in bytes.
        limit: u64,
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
        /// What was at fault there.
        blame: Blame,
    },
    /// The module has failed before, a short while ago.
    #[error("{reason} (that was {} s ago, and is tried again in {} s)", age.as_secs(), left.as_secs() + 1)]
    Remembered {
        /// The error of then.
        reason: String,
        /// What was at fault then.
        blame: Blame,
        /// How long ago that was.
        age: Duration,
        /// For how long it is still believed.
        left: Duration,
    },
    /// Another process has been compiling the same module for too long, or all compilers of the node were busy.
    #[error("gave up after {waited:?} of waiting for {what}, for {name}; try again")]
    Busy {
        /// The source's name.
        name: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited: Duration,
    },
    /// Whoever wanted the module has gone.
    #[error("the compilation of {name} was given up: its requester has gone and nobody else waits for it")]
    Cancelled {
        /// The source's name.
        name: String,
    },
    /// The cache could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Where the cause of a failure lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The module is wrong: an invalid argument, in terms of gRPC.
    Module,
    /// The module costs more than is allowed, or the node has too little: resources are exhausted.
    Cost,
    /// Others had to be waited for too long: unavailable, for now.
    Busy,
    /// Something on this node is in the way: an internal error.
    Node,
}

impl Blame {
    const ALL: [Self; 4] = [Self::Module, Self::Cost, Self::Busy, Self::Node];

    /// The letter for it in a record.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Module => b'M',
            Self::Cost => b'C',
            Self::Busy => b'B',
            Self::Node => b'N',
        }
    }

    /// What the letter of a record means; the node is to blame for one that is unknown.
    pub(crate) fn from_byte(byte: u8) -> Self {
        let known = Self::ALL.into_iter().find(|blame| blame.byte() == byte);
        known.unwrap_or(Self::Node)
    }
}

impl CompileError {
    /// Where the cause lies.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotWasm { .. }
            | Self::Native { .. }
            | Self::TooLarge { .. }
            | Self::DigestMismatch { .. }
            | Self::Invalid { .. }
            | Self::ArtifactTooLarge { .. } => Blame::Module,
            Self::Timeout { .. }
            | Self::CpuTime { .. }
            | Self::Memory { .. }
            | Self::Cache(CacheError::NoSpace { .. } | CacheError::Full { .. }) => Blame::Cost,
            Self::Busy { .. } | Self::Cancelled { .. } => Blame::Busy,
            Self::Elsewhere { blame, .. } | Self::Remembered { blame, .. } => *blame,
            Self::Unreadable { .. }
            | Self::Crashed { .. }
            | Self::Threaded { .. }
            | Self::Worker { .. }
            | Self::Cache(CacheError::UnsafeDirectory { .. } | CacheError::Io { .. }) => Blame::Node,
        }
    }

    /// Whether the module itself is at fault, so that trying again cannot help.
    pub fn is_module_fault(&self) -> bool {
        self.blame() == Blame::Module
    }

    /// Whether another try of the same content, with the same engine, is likely to fail at the same cost; and if so, whether
    /// the node may have had its part in it.
    pub(crate) fn outlasts_this_try(&self) -> Option<bool> {
        match self {
            Self::Invalid { .. } | Self::ArtifactTooLarge { .. } | Self::CpuTime { .. } | Self::Memory { .. } => {
                Some(false)
            }
            Self::Timeout { .. } | Self::Crashed { .. } => Some(true),
            _ => None,
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
