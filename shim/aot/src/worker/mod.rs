//! The compiler's process.
//!
//! Cranelift is trusted to be correct, not to be invulnerable: it reads whatever an image contains. So it runs in a
//! forked child that has nothing to lose (module `confine`): the module to read, one file to write to and a pipe for its
//! error. The parent only waits for it, for a limited time and as long as somebody wants the result, and turns the way it
//! ended into an error.
//!
//! The module's bytes are read here and nowhere else: within the child's limit of memory, and in the pod's cgroup where
//! the requester names one. Before the first of them is interpreted, they are hashed, so that the result can only get the
//! name of what was compiled, however the file changes meanwhile.
//!
//! A fork, not an exec: the child inherits the engine, so that nothing is set up twice and both agree on every
//! setting by construction. The price is that the caller must be single-threaded, for after the fork only the calling
//! thread exists and a lock that another one held would stay locked for ever. That is checked.
//!
//! What a subverted compiler could still do is to write wrong code for the module that subverted it, and that module's
//! guests are confined as any other. It cannot reach the code of another module, the cache, the shim or the node.

mod confine;
mod outcome;
mod seccomp;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, pipe2};
use tandem_digest::{Digest, ModuleKind};
use wasmtime::Engine;

use crate::error::CompileError;
use crate::limits::Limits;
use crate::source::{Format, kind_of_header, read_full};
use outcome::{Failure, Outcome};

/// Longest error text that is taken from a worker.
const LONGEST_TEXT: usize = 16 * 1024;
/// Between the end of a worker's output and the end of its process pass some microseconds.
const REAP_PAUSE: Duration = Duration::from_micros(100);
/// How often it is asked whether the result is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// One module to compile.
pub(crate) struct Job<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) name: &'a str,
    /// The module, of which nothing but the format is known.
    pub(crate) source: &'a File,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// What its content must be.
    pub(crate) digest: Digest,
    pub(crate) format: Format,
    /// An empty file, open for writing, which receives the artifact.
    pub(crate) output: &'a File,
    pub(crate) limits: &'a Limits,
    /// User and group that no other process of the node has.
    pub(crate) user: u32,
    /// `cgroup.procs` of the cgroups that pay.
    pub(crate) cgroups: &'a [BorrowedFd<'a>],
}

/// The number of threads of this process. A fork is sound with one.
///
/// # Errors
/// When no procfs is mounted.
fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Compiles in a worker, as long as it is `wanted`. When this returns, the worker is gone.
pub(crate) fn compile(job: &Job<'_>, wanted: &mut dyn FnMut() -> bool) -> Result<ModuleKind, CompileError> {
    let broken = |step: &str, source: io::Error| CompileError::Worker {
        name: job.name.to_owned(),
        step: step.to_owned(),
        source: Some(source),
    };
    let threads = thread_count().map_err(|error| broken("count the threads of this process", error))?;
    if threads != 1 {
        return Err(CompileError::Threaded {
            name: job.name.to_owned(),
            threads,
        });
    }
    let (text, text_end) = pipe2(OFlag::O_CLOEXEC).map_err(|error| broken("create a pipe", error.into()))?;
    let parent = getpid();
    // SAFETY: this process has one thread, so the child has all there is: no lock is held by a thread that it lacks.
    let worker = match unsafe { fork() }.map_err(|error| broken("fork", error.into()))? {
        ForkResult::Child => {
            let code = child(job, text_end, parent);
            // SAFETY: ends this process at once. Neither destructors nor exit handlers of the parent's may run here.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => Worker { pid: Some(child) },
    };
    drop(text_end);
    let (ending, text) = worker
        .supervise(text.into(), job.limits.wall, wanted)
        .map_err(|error| broken("supervise its process", error))?;
    outcome::judge(ending, &text, job)
}

/// The life of a worker; returns its exit code.
fn child(job: &Job<'_>, text_end: OwnedFd, parent: Pid) -> i32 {
    // A panic must not unwind into the frames of the parent, and its message goes to the pipe.
    let _ = std::panic::take_hook();
    let run = || {
        let mut files = confine::confine(job, text_end, parent).map_err(Failure::Confine)?;
        let bytes = read(job, &files.source)?;
        let (code, kind) = translate(job, &bytes).map_err(Failure::Invalid)?;
        files.output.write_all(&code).map_err(Failure::Write)?;
        Ok::<_, Failure>(kind)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(kind)) => Outcome::from(kind) as i32,
        Ok(Err(failure)) => {
            let _ = io::stderr().write_all(failure.text().as_bytes());
            failure.outcome() as i32
        }
        Err(_) => Outcome::Panic as i32,
    }
}

/// Reads the module, and makes sure that it is the right one before anything is made of it.
fn read(job: &Job<'_>, source: &File) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let size = usize::try_from(job.size).map_err(|error| Failure::Invalid(error.to_string()))?;
    bytes
        .try_reserve_exact(size)
        .map_err(|_| Failure::Invalid("out of memory for the module itself".into()))?;
    bytes.resize(size, 0);
    let count = read_full(source, &mut bytes, 0).map_err(Failure::Read)?;
    bytes.truncate(count);
    match Digest::of(&bytes) {
        digest if digest == job.digest => Ok(bytes),
        other => Err(Failure::Mismatch(other)),
    }
}

fn translate(job: &Job<'_>, bytes: &[u8]) -> Result<(Vec<u8>, ModuleKind), String> {
    let binary;
    let (wasm, kind) = match job.format {
        Format::Binary(kind) => (bytes, kind),
        Format::Text => {
            binary = wat::parse_bytes(bytes).map_err(|error| error.to_string())?;
            (&*binary, kind_of_header(&binary)?)
        }
    };
    let code = match kind {
        ModuleKind::Core => job.engine.precompile_module(wasm),
        ModuleKind::Component => job.engine.precompile_component(wasm),
    };
    Ok((code.map_err(|error| format!("{error:#}"))?, kind))
}

/// How a worker has ended.
enum Ending {
    Exited(i32),
    Signaled(Signal),
    TimedOut,
    /// Nobody wanted the result any more.
    Unwanted,
}

/// A running worker; killed and reaped when dropped.
struct Worker {
    pid: Option<Pid>,
}

impl Worker {
    /// Waits for the end and returns it with the text that the worker has sent.
    fn supervise(
        mut self,
        mut pipe: File,
        wall: Duration,
        wanted: &mut dyn FnMut() -> bool,
    ) -> io::Result<(Ending, Vec<u8>)> {
        let deadline = Instant::now() + wall;
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            if !wait_readable(&pipe, deadline.min(Instant::now() + LOOK))? {
                if Instant::now() >= deadline {
                    return Ok((Ending::TimedOut, text));
                }
                if !wanted() {
                    return Ok((Ending::Unwanted, text));
                }
                continue;
            }
            let count = pipe.read(&mut buffer)?;
            if count == 0 {
                return Ok((self.reap(deadline)?, text));
            }
            let room = LONGEST_TEXT.saturating_sub(text.len());
            text.extend_from_slice(&buffer[..count.min(room)]);
        }
    }

    /// Waits for the process, which may have closed its pipe without ending.
    fn reap(&mut self, deadline: Instant) -> io::Result<Ending> {
        let Some(pid) = self.pid else {
            return Ok(Ending::TimedOut);
        };
        loop {
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => {
                    self.pid = None;
                    return Ok(Ending::Exited(code));
                }
                Ok(WaitStatus::Signaled(_, signal, _)) => {
                    self.pid = None;
                    return Ok(Ending::Signaled(signal));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    // Someone else has waited for all children of this process: there is nothing left to reap.
                    self.pid = None;
                    return Err(error.into());
                }
            }
            if Instant::now() >= deadline {
                return Ok(Ending::TimedOut);
            }
            std::thread::sleep(REAP_PAUSE);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            let _ = kill(pid, Signal::SIGKILL);
            while waitpid(pid, None) == Err(Errno::EINTR) {}
        }
    }
}

/// Whether `pipe` has something to read, or is closed, before the deadline.
fn wait_readable(pipe: &File, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that the last millisecond is not spent spinning.
        let timeout = PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
