//! Creating and starting a container in a worker of the zygote.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

use super::adapt::{self, Surroundings};
use super::handover::Handover;
use super::labels::{self, Modules};
use super::linux::LinuxExecutor;
use super::wasm::{self, Prepared, WasmExecutor};
use super::wire::{Create, Op, Report, Workload};
use super::{Answered, Zygote, causes, keyring, rlimits, staging};
use crate::bundle::Bundle;
use crate::fault::{Fault, Kind, Result, chain};

/// Name of the socket in the bundle by which a terminal comes.
const CONSOLE_SOCKET: &str = "console.sock";
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
pub fn create(zygote: &mut Zygote, op: Op, create: Create, fds: Vec<OwnedFd>) -> Result<Answered> {
    let mut fds = fds.into_iter();
    let bundle = Bundle::load(&create.bundle)?;
    let around = Surroundings {
        bundle: &create.bundle,
        modules: Modules::of_node(),
        systemd_cgroup: create.systemd_cgroup,
        is_directory: &|path| path.is_dir(),
        hierarchies: adapt::hierarchies(&bundle, &create)?,
        host_process: nix::unistd::getppid().as_raw(),
    };
    let adapted = adapt::adapt(bundle.spec(), &around)?;
    let spec = adapted.as_ref().map_or(bundle.spec(), |adapted| &adapted.spec);
    let builder = ContainerBuilder::new(create.id.clone(), SyscallType::default())
        .with_root_path(&create.state_root)
        .map_err(|error| explain(&create, &error))?;
    let console = create.terminal.then(|| ConsoleSocket::bind(&create)).transpose()?;
    let builder = match &console {
        Some(console) => builder.with_console_socket(Some(&console.path)),
        None => {
            let (Some(stdin), Some(stdout), Some(stderr)) = (fds.next(), fds.next(), fds.next()) else {
                return Err(Fault::internal("zygote: a create request came without its streams"));
            };
            builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr)
        }
    };
    let builder = match &create.workload {
        Workload::Linux => builder.with_executor(LinuxExecutor::default()),
        Workload::Wasm {
            name,
            export,
            digest,
            http_port,
        } => {
            let memory = fds
                .next()
                .ok_or_else(|| Fault::internal("zygote: a guest came without its memory limit"))?;
            match wasm::prepare(zygote, name, export.as_deref(), digest.as_deref(), fds.next())? {
                Prepared::Guest(ready) => {
                    let handover = labels::are_asked_for(spec).then(|| Handover::prepare(&ready, memory.as_fd(), spec));
                    let job = ready.job(name, export.as_deref(), *http_port, &create.http_limits);
                    let memory = crate::memory::budget(memory);
                    let executor = WasmExecutor::new(*ready, job, memory, handover.transpose()?, zygote.private_fds());
                    builder.with_executor(executor)
                }
                Prepared::NeedsModule => return Ok(Report::NeedsModule { op }.into()),
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
    let pid = container
        .pid()
        .ok_or_else(|| Fault::internal(format!("container {} has no process after its creation", create.id)))?;
    Ok(Answered {
        report: Report::Created { op, pid: pid.as_raw() },
        fd: console.map(ConsoleSocket::receive).transpose()?,
    })
}

/// Where the container's first process sends the master of its terminal: it alone can make one, in its own devpts.
struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    /// In the bundle, which containerd removes whatever happens here.
    fn bind(create: &Create) -> Result<Self> {
        let dir = &create.bundle;
        let fault = |error: std::io::Error| {
            Fault::internal(format!("cannot make a console socket in {}: {error}", dir.display()))
        };
        let path = dir.join(CONSOLE_SOCKET);
        // Of an earlier Create that was cut short.
        let _ = std::fs::remove_file(&path);
        let dir = File::open(dir).map_err(fault)?;
        // Through the directory's descriptor, because a socket's path has 108 bytes.
        let short = format!("/proc/self/fd/{}/{CONSOLE_SOCKET}", dir.as_raw_fd());
        let listener = UnixListener::bind(short).map_err(fault)?;
        Ok(Self { listener, path })
    }

    /// The process has sent it by the time that it is ready.
    fn receive(self) -> Result<OwnedFd> {
        let (stream, _) = self
            .listener
            .accept()
            .map_err(|error| Fault::internal(format!("cannot accept a terminal: {error}")))?;
        receive_master(stream.as_fd())
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes a terminal's master from a socket to which libcontainer's `setup_console` has sent it.
pub fn receive_master(socket: BorrowedFd<'_>) -> Result<OwnedFd> {
    let fault = |why: &str| Fault::internal(format!("the process did not send its terminal: {why}"));
    let mut name = [0u8; 64];
    let mut slices = [IoSliceMut::new(&mut name)];
    let mut control = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)
        .map_err(|errno| fault(errno.desc()))?;
    for message in received.cmsgs().map_err(|errno| fault(errno.desc()))? {
        if let ControlMessageOwned::ScmRights(fds) = message
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just installed this descriptor for us; nobody else knows it.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(fault("there was no descriptor in its message"))
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
