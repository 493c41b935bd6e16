//! Wasm containers: the guest is made ready before the fork, so that whatever is wrong with it fails Create,
//! and runs in the container's confined first process, without an execve.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;

use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use oci_spec::runtime::{Process, Spec};
use tandem_aot::{Artifact, CompileError, Digest, Loaded, ModuleKind, Source};
use tandem_engine::http::HttpLimits;
use tandem_engine::{Code, Guest, MemoryBudget};

use super::handover::Handover;
use super::title::Title;
use super::{Zygote, as_execve, null};
use crate::fault::{Fault, Kind, Result, chain};
use crate::guest::Job;
use crate::mountfd;

/// A guest that is ready, or the wish for its bytes.
pub enum Prepared {
    /// Ready to run.
    Guest(Box<Ready>),
    /// There is no code for its digest yet.
    NeedsModule,
}

/// A guest, and what is needed to run it in another program instead.
pub struct Ready {
    guest: Guest,
    /// Its compiled code, on a mount that cannot be written.
    pub code: File,
    kind: ModuleKind,
    digest: Digest,
}

impl Ready {
    /// What to run, but for what the container says.
    pub fn job(&self, name: &str, export: Option<&str>, http_port: u16, http_limits: &HttpLimits) -> Job {
        Job {
            name: name.to_owned(),
            export: export.map(str::to_owned),
            component: self.kind == ModuleKind::Component,
            digest: self.digest.to_string(),
            http_port,
            http_limits: http_limits.clone(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: "/".into(),
        }
    }
}

/// Gets the module from the compiled-code cache, or compiles it into it, and checks that it can run.
///
/// With a digest and without a module only the cache is asked: the bytes of a layer are read, hashed and
/// passed on once per node, not once per start.
pub fn prepare(
    zygote: &Zygote,
    name: &str,
    export: Option<&str>,
    digest: Option<&str>,
    module: Option<OwnedFd>,
) -> Result<Prepared> {
    let engine = zygote.host.engine();
    let expected = digest
        .map(str::parse::<Digest>)
        .transpose()
        .map_err(|error| Fault::invalid(format!("{name}: {error}")))?;
    let artifact = match (module, &expected) {
        (Some(module), _) => {
            let source = Source {
                name: name.to_owned(),
                file: File::from(module),
                expected,
            };
            zygote
                .cache
                .get_or_compile(engine, &source)
                .map_err(|error| uncompiled(&error))?
        }
        (None, Some(digest)) => match zygote.cache.get(engine, digest) {
            Ok(Some(artifact)) => artifact,
            Ok(None) => return Ok(Prepared::NeedsModule),
            Err(error) => return Err(Fault::internal(format!("{name}: {}", chain(&error)))),
        },
        (None, None) => return Err(Fault::internal(format!("{name}: the zygote was given no module"))),
    };
    let internal = |error: std::io::Error| Fault::internal(format!("{name}: its compiled code: {error}"));
    let artifact = out_of_reach(&artifact).map_err(internal)?;
    let (kind, digest) = (artifact.kind(), artifact.digest());
    let file = artifact.file().try_clone().map_err(internal)?;
    let code = match artifact.load(engine) {
        Ok(Loaded::Core(module)) => Code::Core(module),
        Ok(Loaded::Component(component)) => Code::Component(component),
        Err(error) => return Err(Fault::internal(format!("{name}: {}", chain(&error)))),
    };
    let guest = zygote
        .host
        .prepare(&code, export)
        .map_err(|error| Fault::invalid(format!("{name}: {}", chain(&error))))?;
    Ok(Prepared::Guest(Box::new(Ready {
        guest,
        code: file,
        kind,
        digest,
    })))
}

/// The same artifact, opened on a read-only mount that nobody else refers to. The guest keeps it open, and whoever may
/// look into the guest's process could open it anew for writing: the code of all containers of that module.
fn out_of_reach(artifact: &Artifact) -> std::io::Result<Artifact> {
    let link = |fd: &dyn AsRawFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mount = mountfd::copy(Path::new(&link(artifact.file())), false)?;
    let read_only = mountfd::Change {
        set: libc::MOUNT_ATTR_RDONLY,
        ..mountfd::Change::default()
    };
    mountfd::change(mount.as_fd(), &read_only)?;
    let file = File::open(link(&mount))?;
    // SAFETY: it is the very file that the cache has opened and verified.
    Ok(unsafe { Artifact::inherited(file, artifact.kind(), artifact.digest()) })
}

fn uncompiled(error: &CompileError) -> Fault {
    let kind = match error {
        error if error.is_module_fault() => Kind::InvalidArgument,
        CompileError::Busy { .. } => Kind::Unavailable,
        CompileError::Timeout { .. }
        | CompileError::CpuTime { .. }
        | CompileError::Memory { .. }
        | CompileError::ArtifactTooLarge { .. } => Kind::ResourceExhausted,
        CompileError::Cache(error) if is_disk_full(error) => Kind::ResourceExhausted,
        _ => Kind::Internal,
    };
    Fault {
        kind,
        message: chain(error),
    }
}

fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Runs in the confined first process of a Wasm container.
#[derive(Clone)]
pub struct WasmExecutor {
    /// Taken by the one process that runs it; libcontainer clones executors, not guests.
    guest: Rc<RefCell<Option<Guest>>>,
    env: RefCell<Vec<(String, String)>>,
    /// What does not depend on the container.
    job: Job,
    memory: MemoryBudget,
    handover: Option<Rc<Handover>>,
    private_fds: Vec<RawFd>,
    highest_fd: RawFd,
    title: Title,
}

impl WasmExecutor {
    /// An executor for a guest, which it hands over to an execve where there is a `handover`; `private_fds` are closed
    /// in the container's process.
    pub fn new(
        ready: Ready,
        job: Job,
        memory: MemoryBudget,
        handover: Option<Handover>,
        private_fds: Vec<RawFd>,
    ) -> Self {
        Self {
            guest: Rc::new(RefCell::new(Some(ready.guest))),
            env: RefCell::default(),
            job,
            memory,
            handover: handover.map(Rc::new),
            private_fds,
            highest_fd: as_execve::highest_fd(),
            title: Title::find(),
        }
    }

    fn job(&self, spec: &Spec) -> Job {
        let process = spec.process().as_ref();
        let cwd = process.map(|process| process.cwd().display().to_string());
        Job {
            args: process.and_then(|process| process.args().clone()).unwrap_or_default(),
            env: self.ordered_env(process),
            cwd: cwd.filter(|cwd| !cwd.is_empty()).unwrap_or_else(|| "/".into()),
            ..self.job.clone()
        }
    }

    /// The environment in the order of the spec, then what libcontainer adds (HOME).
    fn ordered_env(&self, process: Option<&Process>) -> Vec<(String, String)> {
        let mut rest = self.env.borrow().clone();
        let mut env = Vec::with_capacity(rest.len());
        for name in process.and_then(|process| process.env().as_deref()).unwrap_or_default() {
            let name = name.split('=').next().unwrap_or_default();
            if let Some(at) = rest.iter().position(|(key, _)| key == name) {
                env.push(rest.swap_remove(at));
            }
        }
        rest.sort();
        env.extend(rest);
        env
    }
}

impl Executor for WasmExecutor {
    fn validate(&self, _: &Spec) -> std::result::Result<(), ExecutorValidationError> {
        // Nothing is executed, so close-on-exec does not help: the zygote's own channels are closed here,
        // after confinement and before the guest.
        for fd in &self.private_fds {
            // SAFETY: these descriptors are copies that the fork made; their owners are never dropped in this
            // process, which ends with exit().
            unsafe { libc::close(*fd) };
        }
        null::make_outputs_writable();
        let file = Path::new(&self.job.name).file_name().and_then(|name| name.to_str());
        let name = std::ffi::CString::new(file.unwrap_or("wasm")).unwrap_or_default();
        let _ = nix::sys::prctl::set_name(&name);
        // From here on SIGTERM ends the container, though it is created only and not started.
        tandem_engine::signals::install()
            .map_err(|error| ExecutorValidationError::ArgValidationError(format!("signal handlers: {error}")))
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> std::result::Result<(), ExecutorSetEnvsError> {
        self.env.replace(envs.into_iter().collect());
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> std::result::Result<(), ExecutorError> {
        let job = self.job(spec);
        if let Some(handover) = &self.handover {
            // After Start there is nobody to return an error to but the container's own stderr.
            let Err(error) = handover.exec(&job, spec) else {
                return Ok(());
            };
            eprintln!("tandem: cannot hand {} over to its security label: {error}", job.name);
            std::process::exit(tandem_engine::EXIT_HOST);
        }
        as_execve::reduce_capabilities().map_err(|error| ExecutorError::Execution(error.into()))?;
        as_execve::close_inherited(self.highest_fd);
        // SAFETY: this process is a fork of the one that looked for it, has one thread, and goes by the job from here on.
        unsafe { self.title.show(&job.args) };
        let guest = self.guest.borrow_mut().take();
        let guest = guest.ok_or_else(|| ExecutorError::Other("the guest has run already".into()))?;
        std::process::exit(guest.run(job.spec(self.memory.clone())))
    }
}
