//! The binary's hidden role: a Wasm guest that was handed over by an execve (see `zygote::handover`). The process is
//! confined already, and has the guest's compiled code and a description of what to run as inherited descriptors.
//!
//! Whoever else executes the binary in this role, say from a container with `/proc/<pid>/exe`, runs what he brought
//! along, with the rights he has: no more than any other program would do for him.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};
use tandem_aot::{Artifact, Loaded, ModuleKind};
use tandem_engine::{Code, GuestSpec, Host, MemoryBudget};
use wasmtime::Engine;

use crate::fault::{Fault, Result, chain};
use crate::memory;

/// First argument by which the binary knows its role.
pub const NAME: &str = "tandem-guest";
/// Where the compiled code is inherited.
pub const CODE_FD: RawFd = 3;
/// Where the [`Job`] is inherited, as JSON.
pub const JOB_FD: RawFd = 4;
/// Where the guest's memory limit is inherited (see [`crate::memory`]).
pub const MEMORY_FD: RawFd = 5;
/// Arguments and environment of a process have two megabytes; quoted they are longer.
const MAX_JOB: u64 = 16 << 20;

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
        }
    }
}

/// Takes the compiled code, the job and the memory limit that this process has inherited.
pub fn inherited() -> Result<(File, Job, OwnedFd)> {
    // SAFETY: called once, by a process that was executed a moment ago: these numbers are what was inherited, or
    // closed, in which case the first use fails.
    let (code, job, memory) = unsafe {
        (
            File::from_raw_fd(CODE_FD),
            File::from_raw_fd(JOB_FD),
            OwnedFd::from_raw_fd(MEMORY_FD),
        )
    };
    Ok((code, read(job)?, memory))
}

/// Runs the inherited guest and answers the code to exit with.
pub fn run() -> Result<i32> {
    let (code, job, memory) = inherited()?;
    let process_name = job.name.rsplit('/').next().unwrap_or_default();
    let _ = nix::sys::prctl::set_name(&CString::new(process_name).unwrap_or_default());
    let fault = |why: String| Fault::internal(format!("{}: {why}", job.name));
    let engine = Engine::new(&tandem_aot::engine_config())
        .map_err(|error| fault(format!("cannot start the Wasm engine: {error:#}")))?;
    let kind = if job.component {
        ModuleKind::Component
    } else {
        ModuleKind::Core
    };
    let digest = job.digest.parse().map_err(|error| fault(format!("{error}")))?;
    // SAFETY: the process that executed this one has opened and verified the entry, and it inherited the descriptor.
    let artifact = unsafe { Artifact::inherited(code, kind, digest) };
    let code = match artifact.load(&engine).map_err(|error| fault(chain(&error)))? {
        Loaded::Core(module) => Code::Core(module),
        Loaded::Component(component) => Code::Component(component),
    };
    let guest = Host::new(engine)
        .prepare(&code, job.export.as_deref())
        .map_err(|error| fault(chain(&error)))?;
    Ok(guest.run(job.spec(memory::budget(memory))))
}

fn read(mut file: File) -> Result<Job> {
    use std::io::Seek;
    let fault = |why: String| Fault::invalid(format!("the job in descriptor {JOB_FD} cannot be read: {why}"));
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.take(MAX_JOB).read_to_end(&mut bytes))
        .map_err(|error| fault(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))
}
