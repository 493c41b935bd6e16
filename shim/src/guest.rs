//! The binary's hidden role: a Wasm guest that was handed over by an execve (see `zygote::handover`). The process is
//! confined already, and has the guest's compiled code and a description of what to run as inherited descriptors.
//!
//! Whoever else executes the binary in this role, say from a container with `/proc/<pid>/exe`, runs what he brought
//! along, with the rights he has: no more than any other program would do for him.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use oci_spec::runtime::PosixRlimit;
use serde::{Deserialize, Serialize};
use tandem_confine::{Class, Error, Gate, Waiting};
use tandem_engine::http::HttpLimits;
use tandem_engine::{GuestSpec, Host, MemoryBudget};
use wasmtime::Engine;

use crate::fault::{Fault, Result};
use crate::memory;
use crate::zygote::{limit_files, link, name_process};

/// First argument by which the binary knows its role.
pub const NAME: &str = "tandem-guest";
/// Where the compiled code is inherited.
pub const CODE_FD: RawFd = 3;
/// Where the [`Inherited`] description is, as JSON.
pub const JOB_FD: RawFd = 4;
/// Where the guest's memory limit is inherited (see [`crate::memory`]).
pub const MEMORY_FD: RawFd = 5;
/// Where the line to the runtime is inherited.
pub const LINE_FD: RawFd = 6;
/// Where the byte comes that starts a container's first process.
pub const START_FD: RawFd = 7;
/// Arguments and environment of a process have two megabytes; quoted they are longer.
pub const MAX_JOB: u64 = 16 << 20;
/// Exit code of a process that told its error to the runtime.
const FAILED: i32 = 1;

/// What the executed program goes on with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Inherited {
    /// What to run.
    pub job: Job,
    /// What a container's first process does when it is started; none for a process that is executed in one.
    pub waiting: Option<Waiting>,
    /// Limits, of which that of open files is still to be set.
    pub limits: Vec<PosixRlimit>,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The module's name, for messages.
    pub name: String,
    /// Export to call.
    pub export: Option<String>,
    /// Whether it is a component.
    pub component: bool,
    /// Digest of its source.
    pub digest: String,
    /// Where a server listens if the environment does not say.
    pub http_port: u16,
    /// What clients of a server may cost it.
    #[serde(default)]
    pub http_limits: HttpLimits,
    /// Arguments, the guest's own name first.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
}

impl Job {
    /// The guest's world, as the engine takes it.
    pub fn spec(&self, memory: MemoryBudget) -> GuestSpec {
        GuestSpec {
            args: self.args.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            // The whole of the container's file system, mounts included.
            root: "/".into(),
            memory,
            http_port: self.http_port,
            http_limits: self.http_limits.clone(),
        }
    }
}

/// Takes the compiled code, the description, the memory limit and the gate that this process has inherited.
pub fn inherited() -> Result<(File, Inherited, OwnedFd, Gate)> {
    // SAFETY: called once, by a process that was executed a moment ago: these numbers are what was inherited, or
    // closed, in which case the first use fails.
    let take = |fd: RawFd| unsafe { OwnedFd::from_raw_fd(fd) };
    let (code, job, memory, line) = (take(CODE_FD), take(JOB_FD), take(MEMORY_FD), take(LINE_FD));
    let inherited = read(job.into())?;
    let gate = match inherited.waiting.clone() {
        Some(waiting) => Gate::of_first(line.into(), take(START_FD), waiting),
        None => Gate::of_executed(line.into()),
    };
    Ok((code.into(), inherited, memory, gate))
}

/// Runs the inherited guest and returns the code to exit with.
pub fn run() -> Result<i32> {
    // An execve makes a process visible to others of its user, who could then change the guest's memory.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| Fault::internal(format!("cannot hide the guest's memory: {errno}")))?;
    let (code, Inherited { job, limits: files, .. }, memory, mut gate) = inherited()?;
    name_process(&job.name);
    let prepared = prepare(code, &job);
    let error = match prepared.and_then(|guest| gate.open().map(|()| guest)) {
        Ok(guest) => match limit_files(&files) {
            Ok(()) => {
                gate.pass();
                return Ok(guest.run(job.spec(memory::budget(memory))));
            }
            Err(error) => error,
        },
        Err(error) => error,
    };
    if !gate.fail(&error) {
        eprintln!("tandem: {error}");
    }
    Ok(FAILED)
}

fn prepare(code: File, job: &Job) -> tandem_confine::Result<tandem_engine::Guest> {
    let failed = |what: &str, why: String| Error::new(Class::Internal, format!("{}: {what}", job.name), why);
    tandem_engine::signals::install().map_err(|error| failed("install signal handlers", error.to_string()))?;
    let engine = Engine::new(&tandem_aot::engine_config())
        .map_err(|error| failed("start the Wasm engine", format!("{error:#}")))?;
    link(&Host::new(engine), code, job)
}

fn read(mut file: File) -> Result<Inherited> {
    use std::io::Seek;
    let fault = |why: String| Fault::invalid(format!("the job in descriptor {JOB_FD} cannot be read: {why}"));
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.take(MAX_JOB).read_to_end(&mut bytes))
        .map_err(|error| fault(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))
}
