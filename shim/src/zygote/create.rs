//! Creating and starting a container in a worker of the zygote.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;

use super::adapt::{self, Surroundings};
use super::handover::Handover;
use super::labels::{self, Modules};
use super::linux::LinuxExecutor;
use super::wasm::{self, Prepared, WasmExecutor};
use super::wire::{Create, Op, Report, Workload};
use super::{Zygote, keyring, rlimits, staging};
use crate::bundle::Bundle;
use crate::fault::{Fault, Kind, Result, chain};

/// Creates the container up to the point where its confined first process waits for Start.
pub fn create(zygote: &mut Zygote, op: Op, create: Create, fds: Vec<OwnedFd>) -> Result<Report> {
    let mut fds = fds.into_iter();
    let (Some(stdin), Some(stdout), Some(stderr)) = (fds.next(), fds.next(), fds.next()) else {
        return Err(Fault::internal("zygote: a create request came without its streams"));
    };
    let bundle = Bundle::load(&create.bundle)?;
    let around = Surroundings {
        bundle: &create.bundle,
        modules: Modules::of_node(),
        systemd_cgroup: create.systemd_cgroup,
        is_directory: &|path| path.is_dir(),
        host_process: nix::unistd::getppid().as_raw(),
    };
    let adapted = adapt::adapt(bundle.spec(), &around)?;
    let spec = adapted.as_ref().map_or(bundle.spec(), |adapted| &adapted.spec);
    let builder = ContainerBuilder::new(create.id.clone(), SyscallType::default())
        .with_root_path(&create.state_root)
        .map_err(|error| explain(&create, &error))?
        .with_stdin(stdin)
        .with_stdout(stdout)
        .with_stderr(stderr);
    let builder = match &create.workload {
        Workload::Linux => builder.with_executor(LinuxExecutor::default()),
        Workload::Wasm { name, export, digest } => {
            match wasm::prepare(zygote, name, export.as_deref(), digest.as_deref(), fds.next())? {
                Prepared::Guest(ready) => {
                    let handover = labels::are_asked_for(spec).then(|| Handover::prepare(ready.code.as_fd(), spec));
                    let export = export.as_deref();
                    let executor = WasmExecutor::new(*ready, name, export, handover.transpose()?, zygote.private_fds());
                    builder.with_executor(executor)
                }
                Prepared::NeedsModule => return Ok(Report::NeedsModule { op }),
            }
        }
    };
    rlimits::allow(spec)?;
    keyring::leave(&create.id);
    if let Some(adapted) = adapted {
        staging::enter(adapted, &create.bundle, &zygote.staging)?;
    }
    let container = builder
        .as_init(&create.bundle)
        .with_systemd(create.systemd_cgroup)
        .with_detach(true)
        .build()
        .map_err(|error| explain(&create, &error))?;
    container
        .pid()
        .map(|pid| Report::Created { op, pid: pid.as_raw() })
        .ok_or_else(|| Fault::internal(format!("container {} has no process after its creation", create.id)))
}

/// Starts a created container and runs its poststart hooks.
pub fn start_with_hooks(state: PathBuf) -> Result<()> {
    let fault = |error: LibcontainerError| Fault::internal(chain(&error));
    let mut container = Container::load(state).map_err(fault)?;
    container.start().map_err(fault)
}

/// Names the container and tells what the bundle got wrong from what the host could not do.
fn explain(create: &Create, error: &LibcontainerError) -> Fault {
    let text = chain(error);
    let kind = match error {
        LibcontainerError::InvalidSpec(_) | LibcontainerError::MissingSpec(_) | LibcontainerError::InvalidID(_) => {
            Kind::InvalidArgument
        }
        LibcontainerError::Exist => Kind::AlreadyExists,
        // The container's first process reports as text what it found wrong inside.
        _ if text.contains(super::linux::NOT_FOUND) => Kind::NotFound,
        _ if text.contains(super::linux::NOT_EXECUTABLE) => Kind::InvalidArgument,
        _ if text.contains("ENOSPC") => Kind::ResourceExhausted,
        _ => Kind::Internal,
    };
    Fault {
        kind,
        message: format!("cannot create container {}: {text}", create.id),
    }
}
