//! What the end of a worker means.
//!
//! The exit code says what has happened and the pipe says why. A worker that was subverted can say what it likes:
//! the worst that its word decides is the error for its own module.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use tandem_digest::{Digest, ModuleKind};

use super::{Ending, Job};
use crate::error::{CacheError, CompileError};

/// Exit codes of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Core = 0,
    Component = 1,
    Invalid = 10,
    NoSpace = 11,
    TooLarge = 12,
    Write = 13,
    Confine = 14,
    Read = 15,
    Mismatch = 16,
    /// What Rust's own runtime uses.
    Panic = 101,
}

const OUTCOMES: [Outcome; 10] = [
    Outcome::Core,
    Outcome::Component,
    Outcome::Invalid,
    Outcome::NoSpace,
    Outcome::TooLarge,
    Outcome::Write,
    Outcome::Confine,
    Outcome::Read,
    Outcome::Mismatch,
    Outcome::Panic,
];

impl From<ModuleKind> for Outcome {
    fn from(kind: ModuleKind) -> Self {
        match kind {
            ModuleKind::Core => Self::Core,
            ModuleKind::Component => Self::Component,
        }
    }
}

/// Why a worker gives up.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be confined, and so has not looked at the module.
    Confine(String),
    /// The module could not be read.
    Read(io::Error),
    /// The module has this digest instead of the right one.
    Mismatch(Digest),
    /// The module does not compile.
    Invalid(String),
    /// The artifact could not be written.
    Write(io::Error),
}

impl Failure {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Confine(_) => Outcome::Confine,
            Self::Read(_) => Outcome::Read,
            Self::Mismatch(_) => Outcome::Mismatch,
            Self::Invalid(_) => Outcome::Invalid,
            Self::Write(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOSPC | Errno::EDQUOT) => Outcome::NoSpace,
                Some(Errno::EFBIG) => Outcome::TooLarge,
                _ => Outcome::Write,
            },
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Confine(text) | Self::Invalid(text) => text.clone(),
            Self::Mismatch(digest) => digest.to_string(),
            Self::Read(error) | Self::Write(error) => error.to_string(),
        }
    }
}

/// Turns the end of a worker into the kind of what it has compiled, or into the error.
pub(super) fn judge(ending: Ending, text: &[u8], job: &Job<'_>) -> Result<ModuleKind, CompileError> {
    let name = job.name.to_owned();
    let limits = job.limits;
    let text = printable(text);
    let memory = limits.memory_for(job.size);
    let crashed = |how: String, detail: String| CompileError::Crashed {
        name: name.clone(),
        how,
        detail,
    };
    let code = match ending {
        Ending::TimedOut => {
            return Err(CompileError::Timeout {
                name,
                limit: limits.wall,
            });
        }
        Ending::Unwanted => return Err(CompileError::Cancelled { name }),
        Ending::Signaled(Signal::SIGXCPU) => {
            return Err(CompileError::CpuTime {
                name,
                limit: limits.cpu,
            });
        }
        // How Rust's runtime ends a process whose allocation has failed, and a thread that gets no stack.
        Ending::Signaled(Signal::SIGABRT) if out_of_memory(&text) => {
            return Err(CompileError::Memory { name, limit: memory });
        }
        Ending::Signaled(Signal::SIGKILL) => {
            return Err(crashed(
                "SIGKILL".into(),
                "someone has killed it, most likely the kernel for lack of memory on the node or in the pod".into(),
            ));
        }
        Ending::Signaled(signal) => return Err(crashed(signal.to_string(), text)),
        Ending::Exited(code) => code,
    };
    let Some(outcome) = OUTCOMES.into_iter().find(|outcome| *outcome as i32 == code) else {
        return Err(crashed(format!("exit code {code}"), text));
    };
    match outcome {
        Outcome::Core => Ok(ModuleKind::Core),
        Outcome::Component => Ok(ModuleKind::Component),
        Outcome::Invalid if out_of_memory(&text) => Err(CompileError::Memory { name, limit: memory }),
        Outcome::Invalid => Err(CompileError::Invalid { name, reason: text }),
        Outcome::TooLarge => Err(CompileError::ArtifactTooLarge {
            name,
            limit: limits.artifact_for(job.size),
        }),
        Outcome::NoSpace => Err(CacheError::NoSpace {
            action: "write the compiled code to",
            path: file_path(job),
        }
        .into()),
        Outcome::Write => Err(CompileError::Worker {
            name,
            step: format!("write the compiled code: {text}"),
            source: None,
        }),
        Outcome::Read => Err(CompileError::Unreadable {
            name,
            source: io::Error::other(text),
        }),
        Outcome::Mismatch => match text.parse() {
            Ok(actual) => Err(CompileError::DigestMismatch {
                name,
                expected: job.digest,
                actual,
            }),
            Err(_) => Err(crashed("a digest that is none".into(), text)),
        },
        Outcome::Confine => Err(CompileError::Worker {
            name,
            step: text,
            source: None,
        }),
        Outcome::Panic if out_of_memory(&text) => Err(CompileError::Memory { name, limit: memory }),
        Outcome::Panic => Err(crashed("panic".into(), text)),
    }
}

/// Whether an error that was reported in good order came from the limit on memory.
fn out_of_memory(text: &str) -> bool {
    // Of the allocator's end, of ENOMEM, of wasmtime's `OutOfMemory`, and of a thread that could not be started.
    [
        "memory allocation of",
        "Cannot allocate memory",
        "out of memory",
        "Resource temporarily unavailable",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

/// The worker's text as one that may go to a log or a terminal.
fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.trim()
        .chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

fn file_path(job: &Job<'_>) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", job.output.as_raw_fd())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;
    use crate::limits::Limits;
    use crate::source::Format;

    fn judged(ending: Ending, text: &str) -> Result<ModuleKind, String> {
        let engine = Engine::default();
        let output = tempfile::tempfile().unwrap();
        let limits = Limits::default();
        let format = Format::Binary(ModuleKind::Core);
        let job = Job {
            engine: &engine,
            name: "/app.wasm",
            source: &output,
            size: 0,
            digest: Digest::of(b""),
            format,
            output: &output,
            limits: &limits,
            user: 1,
            cgroups: &[],
        };
        judge(ending, text.as_bytes(), &job).map_err(|error| error.to_string())
    }

    #[test]
    fn exit_codes_round_trip() {
        for (index, outcome) in OUTCOMES.into_iter().enumerate() {
            assert_eq!(
                OUTCOMES.iter().position(|other| *other as i32 == outcome as i32),
                Some(index)
            );
        }
        assert_eq!(judged(Ending::Exited(0), ""), Ok(ModuleKind::Core));
        assert_eq!(judged(Ending::Exited(1), ""), Ok(ModuleKind::Component));
    }

    #[test]
    fn every_bad_end_names_the_module_and_the_cause() {
        for (ending, text, expected) in [
            (Ending::TimedOut, "", "longer than 300s"),
            (Ending::Signaled(Signal::SIGXCPU), "", "more than 120s of CPU time"),
            (
                Ending::Signaled(Signal::SIGABRT),
                "memory allocation of 8 bytes failed",
                "more than 1073741824 bytes",
            ),
            (Ending::Signaled(Signal::SIGKILL), "", "lack of memory"),
            (Ending::Signaled(Signal::SIGSEGV), "boom", "SIGSEGV): boom"),
            (Ending::Exited(101), "thread panicked\n", "panic): thread panicked;"),
            (
                Ending::Exited(101),
                "Resource temporarily unavailable",
                "more than 1073741824 bytes",
            ),
            (
                Ending::Exited(10),
                "bad at offset 0x8",
                "/app.wasm does not compile: bad at offset 0x8",
            ),
            (Ending::Exited(12), "", "larger than 4194304 bytes"),
            (Ending::Exited(15), "I/O error", "cannot read /app.wasm"),
            (Ending::Exited(16), &Digest::of(b"x").to_string(), "was promised"),
            (Ending::Exited(16), "sha256:lies", "crashed on /app.wasm"),
            (Ending::Unwanted, "", "its requester has gone"),
            (
                Ending::Exited(14),
                "unshare: denied",
                "cannot run the compiler for /app.wasm: unshare: denied",
            ),
            (Ending::Exited(77), "?", "exit code 77"),
        ] {
            let error = judged(ending, text).unwrap_err();
            assert!(error.contains(expected) && error.contains("/app.wasm"), "{error}");
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_log() {
        assert_eq!(printable(b"a\x1b[2Jb\n"), "a\u{fffd}[2Jb");
    }
}
