//! Wasm containers: the guest is made ready before the fork, so that whatever is wrong with it fails Create,
//! and runs in the container's confined first process, without an execve.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;

use caps::CapSet;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use oci_spec::runtime::{Process, Spec};
use tandem_aot::{CompileError, Digest, Loaded, Source};
use tandem_engine::{Code, Guest, GuestSpec, MemoryBudget, Preopen};

use super::{Zygote, null};
use crate::fault::{Fault, Kind, Result, chain};

/// A guest that is ready, or the wish for its bytes.
pub enum Prepared {
    /// Ready to run.
    Guest(Guest),
    /// There is no code for its digest yet.
    NeedsModule,
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
    let code = match artifact.load(engine) {
        Ok(Loaded::Core(module)) => Code::Core(module),
        Ok(Loaded::Component(component)) => Code::Component(component),
        Err(error) => return Err(Fault::internal(format!("{name}: {}", chain(&error)))),
    };
    zygote
        .host
        .prepare(&code, export)
        .map(Prepared::Guest)
        .map_err(|error| Fault::invalid(format!("{name}: {}", chain(&error))))
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

/// What execve does to the capabilities of a user other than root: only ambient ones stay permitted and effective.
/// The guest is never executed, so it is done here. Source: capabilities(7), "Transformation of capabilities".
fn drop_capabilities_as_execve() -> std::result::Result<(), caps::errors::CapsError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let ambient = caps::read(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &ambient)?;
    caps::set(None, CapSet::Permitted, &ambient)
}

/// Runs in the confined first process of a Wasm container.
#[derive(Clone)]
pub struct WasmExecutor {
    /// Taken by the one process that runs it; libcontainer clones executors, not guests.
    guest: Rc<RefCell<Option<Guest>>>,
    env: RefCell<Vec<(String, String)>>,
    process_name: String,
    memory: MemoryBudget,
    private_fds: Vec<RawFd>,
}

impl WasmExecutor {
    /// An executor for `guest`; `private_fds` are closed in the container's process.
    pub fn new(guest: Guest, name: &str, memory: MemoryBudget, private_fds: Vec<RawFd>) -> Self {
        let file = Path::new(name).file_name().and_then(|name| name.to_str());
        Self {
            guest: Rc::new(RefCell::new(Some(guest))),
            env: RefCell::default(),
            process_name: file.unwrap_or("wasm").to_owned(),
            memory,
            private_fds,
        }
    }

    fn spec(&self, spec: &Spec) -> GuestSpec {
        let process = spec.process().as_ref();
        let cwd = process.map(|process| process.cwd().display().to_string());
        GuestSpec {
            args: process.and_then(|process| process.args().clone()).unwrap_or_default(),
            env: self.ordered_env(process),
            cwd: cwd.filter(|cwd| !cwd.is_empty()).unwrap_or_else(|| "/".into()),
            // The whole of the container's file system, mounts included. What is read-only there is so by the
            // kernel, for the guest as for any process: a second, coarser rule here would also make volumes
            // below a read-only root unwritable.
            preopens: vec![Preopen {
                host_path: "/".into(),
                guest_path: "/".into(),
                read_only: false,
            }],
            memory: self.memory.clone(),
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
        let name = std::ffi::CString::new(self.process_name.as_str()).unwrap_or_default();
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
        drop_capabilities_as_execve().map_err(|error| ExecutorError::Execution(error.into()))?;
        let guest = self.guest.borrow_mut().take();
        let guest = guest.ok_or_else(|| ExecutorError::Other("the guest has run already".into()))?;
        std::process::exit(guest.run(self.spec(spec)))
    }
}
