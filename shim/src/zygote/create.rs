//! Creating and starting a container in a worker of the zygote.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use nix::errno::Errno;

use super::linux::LinuxExecutor;
use super::wasm::{self, Prepared, WasmExecutor};
use super::wire::{Create, Op, Report, Workload};
use super::{Zygote, causes};
use crate::fault::{Fault, Kind, Result, chain};

/// What the kernel answers when the node is short of something.
const SHORTAGES: [Errno; 6] = [
    Errno::ENOSPC,
    Errno::EDQUOT,
    Errno::EMFILE,
    Errno::ENFILE,
    Errno::EAGAIN,
    Errno::ENOMEM,
];

/// Creates the container up to the point where its confined first process waits for Start.
pub fn create(zygote: &mut Zygote, op: Op, create: Create, fds: Vec<OwnedFd>) -> Result<Report> {
    let mut fds = fds.into_iter();
    let (Some(stdin), Some(stdout), Some(stderr)) = (fds.next(), fds.next(), fds.next()) else {
        return Err(Fault::internal("zygote: a create request came without its streams"));
    };
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
                Prepared::Guest(guest) => builder.with_executor(WasmExecutor::new(guest, name, zygote.private_fds())),
                Prepared::NeedsModule => return Ok(Report::NeedsModule { op }),
            }
        }
    };
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
    let text = causes::of(error);
    let kind = match error {
        LibcontainerError::InvalidSpec(_) | LibcontainerError::MissingSpec(_) | LibcontainerError::InvalidID(_) => {
            Kind::InvalidArgument
        }
        LibcontainerError::Exist => Kind::AlreadyExists,
        // The container's first process reports as text what it found wrong inside.
        _ if text.contains(super::linux::NOT_FOUND) => Kind::NotFound,
        _ if text.contains(super::linux::NOT_EXECUTABLE) => Kind::InvalidArgument,
        _ if SHORTAGES.iter().any(|shortage| text.contains(shortage.desc())) => Kind::ResourceExhausted,
        _ => Kind::Internal,
    };
    Fault {
        kind,
        message: format!("cannot create container {}: {text}", create.id),
    }
}
