//! The zygote: a single-threaded process beside the service, with the Wasm engine warm, from which every
//! container is forked.
//!
//! Why a process of its own: a fork in a threaded process copies locks that no thread will ever release, so
//! a fork may happen only here. And because every container's first process is a child of the zygote, the
//! zygote alone reaps and signals them: a pid cannot be reused between the two.
//!
//! Each operation that may take long (create, hooks) runs in a forked *worker*, so that a hook that hangs
//! or a compilation that takes its time keeps neither another container nor a kill waiting, and so that
//! what is changed for it in the worker's process (working directory, dumpable flag) ends with it. The worker answers
//! the service itself, then exits; the container's first process is its sibling, a child of the zygote.

mod as_execve;
mod create;
mod handover;
mod linux;
mod modules;
mod names;
mod signals;
mod title;
mod wasm;
pub mod wire;
mod workload;

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::MsgFlags;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use tandem_engine::{Host, Kind};
use wasmtime::Engine;

use crate::fault::{Fault, Result, chain};
use crate::node_config::NodeConfig;
use crate::paths::Paths;
use title::Title;
pub use wasm::{limit_files, link, name_process};
use wire::{Op, Report, Request};

/// How long the zygote waits for its killed children before it leaves them to `init`.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What a worker answers: a report, and descriptors.
struct Answered {
    report: Report,
    fds: Vec<OwnedFd>,
}

impl From<Report> for Answered {
    fn from(report: Report) -> Self {
        let fds = Vec::new();
        Self { report, fds }
    }
}

/// Everything a worker needs, ready before the first request.
pub struct Zygote {
    socket: OwnedFd,
    children: SignalFd,
    host: Host,
    cache: tandem_aot::Cache,
    /// Where the kernel finds the command line of this process and of those forked from it.
    title: Title,
    /// Descriptors that the warm engine has open, for all guests.
    engine_fds: Vec<RawFd>,
    workers: HashMap<i32, Op>,
}

impl Zygote {
    /// Makes the current process, which must be single-threaded, the zygote behind `socket`.
    pub fn new(socket: OwnedFd, paths: &Paths, config: &NodeConfig) -> Result<Self> {
        let fault = |what: &str, errno: Errno| Fault::internal(format!("zygote: {what}: {errno}"));
        nix::sys::prctl::set_child_subreaper(true).map_err(|e| fault("become subreaper", e))?;
        names::use_built_in_sources()
            .map_err(|error| Fault::internal(format!("zygote: fix the sources of names: {error}")))?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).map_err(|e| fault("block SIGCHLD", e))?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|e| fault("open signalfd", e))?;
        plain_process().map_err(|e| fault("become a process that containers can be forked from", e))?;
        let engine = Engine::new(&tandem_aot::engine_config())
            .map_err(|error| Fault::internal(format!("zygote: cannot start the Wasm engine: {error}")))?;
        let host = Host::new(engine);
        let cache = tandem_aot::Cache::new(paths.cache(), &paths.stamps())
            .map_err(|error| Fault::internal(chain(&error)))?
            .with_cache_limits(config.cache.clone());
        Ok(Self {
            socket,
            children,
            host,
            cache,
            title: Title::find(),
            engine_fds: Vec::new(),
            workers: HashMap::new(),
        })
    }

    /// Serves until the service is gone, then ends every process below.
    pub fn serve(mut self) {
        self.warm();
        self.engine_fds = as_execve::engine_fds();
        loop {
            let mut fds = [
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => {
                    tracing::error!(%errno, "zygote cannot poll");
                    break;
                }
            }
            let requested = fds[0].any().unwrap_or(false);
            if fds[1].any().unwrap_or(false) {
                self.reap();
            }
            if requested && !self.take_request() {
                break;
            }
        }
        self.end();
    }

    /// Builds what every guest of a kind shares while containerd is still connecting.
    fn warm(&mut self) {
        for kind in [Kind::Core, Kind::Component] {
            if let Err(error) = self.host.warm(kind) {
                tracing::error!(error = chain(&error), "Wasm host cannot be warmed");
            }
        }
    }

    /// Handles one request; `false` when the service is gone.
    fn take_request(&mut self) -> bool {
        match wire::receive::<Request>(self.socket.as_fd(), MsgFlags::empty()) {
            Ok(Some(received)) => {
                match received.fds {
                    Ok(fds) => self.handle(received.message, fds),
                    Err(fault) => self.report(&Report::Failed {
                        op: received.message.op(),
                        fault,
                    }),
                }
                true
            }
            Ok(None) => false,
            Err(errno) => {
                tracing::error!(%errno, "zygote cannot read a request");
                errno == Errno::EBADMSG
            }
        }
    }

    fn handle(&mut self, request: Request, fds: Vec<OwnedFd>) {
        match request {
            Request::Create { op, create } => {
                self.in_worker(op, |zygote| create::create(zygote, op, &create, fds));
            }
            Request::Exec { op, exec } => {
                self.in_worker(op, |zygote| create::exec(zygote, op, &exec, fds));
            }
            Request::PostStart { op, id, bundle, pid } => self.in_worker(op, |_| {
                create::post_start(&id, &bundle, pid).map(|()| Report::Done { op }.into())
            }),
            Request::Kill { op, pid, signal } => {
                let sent = signals::send(pid, signal, |pid| self.workers.contains_key(&pid));
                self.report(&match sent {
                    Ok(()) => Report::Done { op },
                    Err(fault) => Report::Failed { op, fault },
                });
            }
        }
    }

    /// Runs `work` in a forked worker that reports its result and exits.
    fn in_worker(&mut self, op: Op, work: impl FnOnce(&mut Self) -> Result<Answered>) {
        let zygote = getpid();
        // SAFETY: the zygote is single-threaded, so the child may go on as a full process.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => {
                self.workers.insert(child.as_raw(), op);
            }
            Ok(ForkResult::Child) => {
                // What a worker makes when the zygote is gone nobody would ever take away.
                let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
                if getppid() != zygote {
                    std::process::exit(1);
                }
                let mut mask = SigSet::empty();
                mask.add(Signal::SIGCHLD);
                let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&mask), None);
                let answered = work(self).unwrap_or_else(|fault| {
                    let fault = fault.shortened();
                    Report::Failed { op, fault }.into()
                });
                self.report_with(&answered.report, &answered.fds);
                std::process::exit(0);
            }
            Err(errno) => {
                let fault = Fault::exhausted(format!("cannot fork: {errno}; the node is out of processes or memory"));
                self.report(&Report::Failed { op, fault });
            }
        }
    }

    fn report(&self, report: &Report) {
        self.report_with(report, &[]);
    }

    fn report_with(&self, report: &Report, fds: &[OwnedFd]) {
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        if let Err(errno) = wire::send(self.socket.as_fd(), report, &fds, MsgFlags::empty()) {
            tracing::error!(%errno, ?report, "zygote cannot report");
        }
    }

    /// Collects every child that ended and tells the service.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.children.read_signal() {}
        loop {
            let (pid, status) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code.unsigned_abs()),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as u32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            match self.workers.remove(&pid.as_raw()) {
                Some(op) => self.report(&Report::WorkerGone { op }),
                None => self.report(&Report::Exited {
                    pid: pid.as_raw(),
                    status,
                }),
            }
        }
    }

    /// The service is gone: nobody could ever stop or wait for what runs here, so it ends now. containerd
    /// then calls the `delete` action, which removes what processes leave.
    fn end(&mut self) {
        let deadline = Instant::now() + LAST_WAIT;
        loop {
            let children = children();
            if children.is_empty() || Instant::now() > deadline {
                return;
            }
            for pid in children {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = poll(&mut [PollFd::new(self.children.as_fd(), PollFlags::POLLIN)], 20u8);
            while let Ok(Some(_)) = self.children.read_signal() {}
            while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
                waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG))
            {}
        }
    }

    /// Descriptors that a guest, which runs in this very process image, must not inherit.
    fn private_fds(&self) -> Vec<RawFd> {
        vec![self.socket.as_raw_fd(), self.children.as_fd().as_raw_fd()]
    }
}

/// Drops what containerd was started with and what a container whose spec is silent about it would inherit:
/// supplementary groups and the umask. As runc does; 022 is its default too.
fn plain_process() -> nix::Result<()> {
    nix::unistd::setgroups(&[])?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let none = caps::CapsHashSet::new();
    caps::set(None, caps::CapSet::Inheritable, &none)
        .and_then(|()| caps::clear(None, caps::CapSet::Ambient))
        .map_err(|_| Errno::last())
}

/// The zygote's children, from proc_pid_children(5).
fn children() -> Vec<i32> {
    let pid = getpid();
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
