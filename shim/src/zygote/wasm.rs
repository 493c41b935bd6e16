//! Wasm guests: loaded, linked and run in the confined process, without an execve. The compiled code is hostile until then:
//! the compiler that made it has read the image's bytes. So nothing of it is looked at with more rights than the guest's.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime::{PosixRlimit, Process};
use tandem_aot::{Artifact, Loaded, ModuleKind};
use tandem_confine::process::limits;
use tandem_confine::{Class, Confined, Error, Result};
use tandem_engine::http::{DEFAULT_PORT, HttpLimits};
use tandem_engine::{Code, Guest, Host};

use super::Zygote;
use super::handover::{self, Handover};
use super::modules::CodeOf;
use super::title::Title;
use crate::fault::chain;
use crate::guest::Job;
use crate::memory;

/// Descriptors that the engine needs, and a few for the guest: streams, code, memory limit, event loop, signals.
const ENGINE_FILES: u64 = 24;

/// A module to run.
pub struct Wasm {
    /// What it is.
    pub code: CodeOf,
    /// Export to call.
    pub export: Option<String>,
    /// The cell of its memory limit.
    pub memory: OwnedFd,
    /// What clients may cost it, if it is a server.
    pub http_limits: HttpLimits,
}

/// A guest that is linked.
pub struct Prepared {
    guest: Guest,
    job: Job,
    memory: OwnedFd,
    title: Title,
}

impl Wasm {
    /// Links the guest with its compiled code.
    pub fn prepare(self, zygote: &Zygote, file: File, confined: &Confined) -> Result<Prepared> {
        let job = self.job(&confined.process, &confined.env);
        name_process(&job.name);
        // From here on SIGTERM ends the container, though it is created only and not started.
        tandem_engine::signals::install()
            .map_err(|error| Error::new(Class::Internal, "install signal handlers", error.to_string()))?;
        let guest = link(&zygote.host, file, &job)?;
        Ok(Prepared {
            guest,
            job,
            memory: self.memory,
            title: zygote.title.clone(),
        })
    }

    /// Becomes another program, which links the guest and goes on by itself. Returns only if that fails.
    pub fn hand_over(self, handover: Handover, confined: &mut Confined) -> Error {
        let job = self.job(&confined.process, &confined.env);
        handover::execute(handover, self.memory, job, confined)
    }

    fn job(&self, process: &Process, env: &[String]) -> Job {
        let cwd = process.cwd().display().to_string();
        Job {
            name: self.code.name.clone(),
            export: self.export.clone(),
            component: self.code.component,
            digest: self.code.digest.clone(),
            http_port: self.code.http_port.unwrap_or(DEFAULT_PORT),
            http_limits: self.http_limits.clone(),
            args: process.args().clone().unwrap_or_default(),
            env: env.iter().map(|variable| pair(variable)).collect(),
            cwd: if cwd.is_empty() { "/".into() } else { cwd },
        }
    }
}

/// Loads the code from its descriptor and links it with the host's functions.
pub fn link(host: &Host, file: File, job: &Job) -> Result<Guest> {
    let named = |class: Class, why: String| Error::new(class, job.name.clone(), why);
    let kind = match job.component {
        true => ModuleKind::Component,
        false => ModuleKind::Core,
    };
    let digest = job
        .digest
        .parse()
        .map_err(|error| named(Class::Internal, format!("{error}")))?;
    // SAFETY: the runtime has opened and verified the entry, and this process got the descriptor from it alone.
    let artifact = unsafe { Artifact::inherited(file, kind, digest) };
    let code = match artifact.load_confined(host.engine()) {
        Ok(Loaded::Core(module)) => Code::Core(module),
        Ok(Loaded::Component(component)) => Code::Component(component),
        Err(error) => return Err(named(Class::Internal, chain(&error))),
    };
    host.prepare(&code, job.export.as_deref())
        .map_err(|error| named(Class::Invalid, chain(&error)))
}

impl Prepared {
    /// Runs the guest.
    pub fn run(self, confined: Confined) -> Result<Infallible> {
        limit_files(confined.process.rlimits().as_deref().unwrap_or_default())?;
        // An executed process runs from here on, as far as the runtime is concerned.
        confined.gate.pass();
        let budget = memory::budget(self.memory);
        // SAFETY: this process is a fork of the one that looked for it, has one thread, and goes by the job from here on.
        unsafe { self.title.show(&self.job.args) };
        std::process::exit(self.guest.run(self.job.spec(budget)))
    }
}

/// Sets the limit of open files: that of the spec, but not so low that the engine could not work.
pub fn limit_files(limits: &[PosixRlimit]) -> Result<()> {
    limits::set_files_at_least(limits, ENGINE_FILES)
}

/// The process's name is the module's.
pub fn name_process(module: &str) {
    let file = Path::new(module).file_name().and_then(|name| name.to_str());
    let name = CString::new(file.unwrap_or("wasm")).unwrap_or_default();
    let _ = nix::sys::prctl::set_name(&name);
}

fn pair(variable: &str) -> (String, String) {
    let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
    (name.to_owned(), value.to_owned())
}
