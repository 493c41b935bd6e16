//! Executing a process in a running container, in a worker of the zygote.
//!
//! libcontainer has a builder for this ("tenant"), which is not used: it applies neither the container's seccomp profile
//! nor its user namespace, reads a state that our Start does not write, and learns of a success by an execve, which a
//! Wasm guest never does. What it would do is done here in the order in which runc does it, with libcontainer's own
//! functions for capabilities, seccomp, AppArmor and terminals. Source: runc `setns_init_linux.go`, `init_linux.go`.
//!
//! The worker forks the process, which reports through a pipe what keeps it from becoming the program. The pipe is
//! closed by the execve, or by hand before a guest runs: nothing in it by then is success.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};

use libcontainer::capabilities;
use libcontainer::syscall::syscall::create_syscall;
use libcontainer::workload::Executor;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Uid, chdir, fork, getcwd, setgroups, setresgid, setresuid, setsid};
use oci_spec::runtime::{LinuxSeccomp, Process, Spec};
use tandem_engine::EXIT_HOST;

use super::create::receive_master;
use super::handover::Handover;
use super::join::Way;
use super::linux::LinuxExecutor;
use super::wasm::{self, Prepared, WasmExecutor};
use super::wire::{Exec, Op, Report, Workload};
use super::{Answered, Zygote, adapt, home, keyring, labels};
use crate::bundle::Bundle;
use crate::fault::{Fault, Result, chain};
use crate::stdio::Size;

/// Longest process section that is read.
const MAX_PROCESS_BYTES: u64 = 8 * 1024 * 1024;

/// Executes the process; it runs when this returns.
pub fn exec(zygote: &mut Zygote, op: Op, exec: &Exec, fds: Vec<OwnedFd>) -> Result<Answered> {
    let mut fds = fds.into_iter();
    let bundle = Bundle::load(&exec.bundle)?;
    let mut process = read_process(fds.next())?;
    inherit_labels(&mut process, bundle.process());
    let mut spec = bundle.spec().clone();
    spec.set_process(Some(process.clone()));
    let streams = match exec.terminal {
        true => Vec::new(),
        false => fds.by_ref().take(3).collect(),
    };
    let program = match &exec.workload {
        Workload::Linux => Program::Linux(LinuxExecutor::default()),
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
                    let handover =
                        labels::are_asked_for(&spec).then(|| Handover::prepare(&ready, memory.as_fd(), &spec));
                    let job = ready.job(name, export.as_deref(), *http_port, &exec.http_limits);
                    let memory = crate::memory::budget(memory);
                    // The zygote's own descriptors are closed before.
                    let executor = WasmExecutor::new(*ready, job, memory, handover.transpose()?, Vec::new());
                    Program::Wasm(Box::new(executor))
                }
                Prepared::NeedsModule => return Ok(Report::NeedsModule { op }.into()),
            }
        }
    };
    let mut way = Way::open(exec.init)?;
    let fault = |what: &str, errno: Errno| Fault::exhausted(format!("cannot {what}: {errno}"));
    let (report, reporter) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| fault("make a pipe", errno))?;
    let (console, console_end) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|errno| fault("make a socket pair", errno))?;
    // The processes of the container will see the new one before it is done with what is the shim's: its memory and its
    // descriptors are none of theirs. An execve ends this. Source: runc, CVE-2016-9962.
    nix::sys::prctl::set_dumpable(false).map_err(|errno| fault("hide the process from the container", errno))?;
    keyring::leave(&exec.id);
    way.enter_for_children()?;
    let private = zygote.private_fds();
    // SAFETY: a worker is single-threaded, so the child may go on as a full process.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            drop((report, console));
            for fd in private {
                // SAFETY: these descriptors are copies that the fork made; their owners are never dropped in this
                // process, which ends with exit() or execve().
                unsafe { libc::close(fd) };
            }
            let newcomer = Newcomer {
                bundle,
                process,
                streams,
                console: exec.terminal.then_some(console_end),
            };
            newcomer.become_program(way, program, File::from(reporter))
        }
        Ok(ForkResult::Parent { child }) => {
            drop((reporter, console_end, streams));
            let mut text = Vec::new();
            let read = File::from(report).take(MAX_PROCESS_BYTES).read_to_end(&mut text);
            if read.is_ok() && text.is_empty() {
                let master = exec.terminal.then(|| receive_master(console.as_fd())).transpose()?;
                return Ok(Answered {
                    report: Report::Created {
                        op,
                        pid: child.as_raw(),
                    },
                    fd: master,
                });
            }
            // Nobody shall ever hear of it.
            let _ = waitpid(child, None);
            let fault = serde_json::from_slice(&text)
                .unwrap_or_else(|_| Fault::internal("the process ended before it could execute anything"));
            Err(Fault {
                message: format!("cannot execute in container {}: {}", exec.id, fault.message),
                ..fault
            })
        }
        Err(errno) => Err(fault(
            "fork into the container (it may be at its limit of processes, or ending)",
            errno,
        )),
    }
}

fn read_process(carried: Option<OwnedFd>) -> Result<Process> {
    let carried = carried.ok_or_else(|| Fault::internal("zygote: an exec came without its process section"))?;
    let mut file = File::from(carried);
    let fault = |why: String| Fault::internal(format!("zygote: process section: {why}"));
    // The position is shared with whoever read it before, if the module had to be asked for.
    file.rewind().map_err(|error| fault(error.to_string()))?;
    serde_json::from_reader(BufReader::new(file.take(MAX_PROCESS_BYTES))).map_err(|error| fault(error.to_string()))
}

/// Where the exec does not say, it is confined as the container is.
fn inherit_labels(process: &mut Process, own: Option<&Process>) {
    let Some(own) = own else { return };
    if process.apparmor_profile().is_none() {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if process.selinux_label().is_none() {
        process.set_selinux_label(own.selinux_label().clone());
    }
}

enum Program {
    Linux(LinuxExecutor),
    Wasm(Box<WasmExecutor>),
}

/// The process on its way to its program.
struct Newcomer {
    bundle: Bundle,
    process: Process,
    /// Input, output, errors; empty with a terminal.
    streams: Vec<OwnedFd>,
    /// Where the terminal's master goes.
    console: Option<OwnedFd>,
}

impl Newcomer {
    /// Executes the program, or reports why that cannot be.
    fn become_program(mut self, way: Way, program: Program, reporter: File) -> ! {
        let ready = self.confine(way).and_then(|spec| {
            let executor: &dyn Executor = match &program {
                Program::Linux(linux) => linux,
                Program::Wasm(guest) => guest.as_ref(),
            };
            let env = self.process.env().as_deref().unwrap_or_default();
            executor
                .setup_envs(libcontainer::utils::parse_env(env))
                .map_err(|error| Fault::internal(chain(&error)))?;
            Ok(spec)
        });
        let fault = match (ready, program) {
            (Ok(spec), Program::Linux(linux)) => linux.execute(&spec),
            (Ok(spec), Program::Wasm(guest)) => match guest.validate(&spec) {
                Ok(()) => {
                    // Nothing was reported, so it is a success.
                    drop(reporter);
                    let error = guest.exec(&spec);
                    eprintln!("tandem: cannot run the guest: {error:?}");
                    std::process::exit(EXIT_HOST)
                }
                Err(error) => Fault::internal(chain(&error)),
            },
            (Err(fault), _) => fault,
        };
        let _ = serde_json::to_writer(reporter, &fault);
        std::process::exit(1)
    }

    /// Becomes a process of the container, with all that its spec and the process's own section say; answers the spec
    /// with that section.
    fn confine(&mut self, mut way: Way) -> Result<Spec> {
        let _ = setsid();
        way.enter_cgroups()?;
        self.set_limits()?;
        if let [stdin, stdout, stderr] = self.streams.as_slice() {
            redirect(stdin, stdout, stderr).map_err(|errno| denied("set the standard streams", errno))?;
        }
        self.streams.clear();
        way.enter_namespaces()?;
        let syscall = create_syscall();
        if let Some(console) = self.console.take() {
            // libcontainer closes it.
            libcontainer::tty::setup_console(syscall.as_ref(), console.into_raw_fd(), false).map_err(|error| {
                Fault::internal(format!(
                    "cannot make a terminal from the container's /dev/ptmx: {}",
                    chain(&error)
                ))
            })?;
            self.adjust_terminal();
        }
        let own = self.bundle.process();
        let no_new_privileges = self.process.no_new_privileges().unwrap_or(false);
        if no_new_privileges {
            nix::sys::prctl::set_no_new_privs().map_err(|errno| denied("set no_new_privs", errno))?;
        }
        if let Some(mask) = self.process.user().umask() {
            umask(Mode::from_bits_truncate(mask));
        }
        // Before the user is changed, who may not see the directory; and once more after, where root may not.
        let entered = self.enter_directory();
        self.become_user()?;
        syscall
            .close_range(0)
            .map_err(|error| Fault::internal(format!("cannot mark descriptors to be closed: {}", chain(&error))))?;
        let seccomp = self
            .bundle
            .spec()
            .linux()
            .as_ref()
            .and_then(|linux| linux.seccomp().as_ref());
        if let (Some(seccomp), false) = (seccomp, no_new_privileges) {
            filter(seccomp)?;
        }
        let dropped = capabilities::reset_effective(syscall.as_ref()).and_then(|()| {
            let inherited = own.and_then(|own| own.capabilities().as_ref());
            let said = self.process.capabilities().as_ref().or(inherited);
            capabilities::drop_privileges(&adapt::capabilities(said), syscall.as_ref())
        });
        dropped.map_err(|error| Fault::internal(format!("cannot set the capabilities: {}", chain(&error))))?;
        if entered.is_err() {
            self.enter_directory()?;
        }
        // A directory that is not below the container's root has no name.
        getcwd().map_err(|errno| denied("use the working directory, which is outside of the container", errno))?;
        home::ensure(&mut self.process);
        if let (Some(seccomp), true) = (seccomp, no_new_privileges) {
            filter(seccomp)?;
        }
        let mut spec = self.bundle.spec().clone();
        spec.set_process(Some(self.process.clone()));
        Ok(spec)
    }

    /// The OOM killer's preference is the container's; the other limits are the process's own, if it has any.
    fn set_limits(&self) -> Result<()> {
        let own = self.bundle.process();
        let score = self
            .process
            .oom_score_adj()
            .or_else(|| own.and_then(Process::oom_score_adj));
        if let Some(score) = score {
            std::fs::write("/proc/self/oom_score_adj", score.to_string())
                .map_err(|error| Fault::internal(format!("cannot set oom_score_adj to {score}: {error}")))?;
        }
        let limits = self.process.rlimits().as_ref();
        let limits = limits.or_else(|| own.and_then(|own| own.rlimits().as_ref()));
        let syscall = create_syscall();
        for limit in limits.into_iter().flatten() {
            syscall
                .set_rlimit(limit)
                .map_err(|error| Fault::invalid(format!("cannot set {:?}: {}", limit.typ(), chain(&error))))?;
        }
        Ok(())
    }

    /// Size and owner; without them it is a terminal still.
    fn adjust_terminal(&self) {
        let stdin = std::io::stdin();
        if let (Some(size), Ok(terminal)) = (Size::of(&self.process), stdin.as_fd().try_clone_to_owned()) {
            let _ = size.apply(&terminal);
        }
        let uid = Uid::from_raw(self.process.user().uid());
        let _ = nix::unistd::fchown(stdin.as_fd(), Some(uid), None);
    }

    fn enter_directory(&self) -> Result<()> {
        let cwd = self.process.cwd();
        chdir(cwd).map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR => Fault::not_found(format!("working directory {}: {errno}", cwd.display())),
            errno => Fault::invalid(format!("working directory {}: {errno}", cwd.display())),
        })
    }

    /// Keeps the capabilities, which are set after.
    fn become_user(&self) -> Result<()> {
        let user = self.process.user();
        let groups = user.additional_gids().as_deref().unwrap_or_default();
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
        nix::sys::prctl::set_keepcaps(true)
            .and_then(|()| setgroups(&groups))
            .and_then(|()| setresgid(gid, gid, gid))
            .and_then(|()| setresuid(uid, uid, uid))
            .and_then(|()| nix::sys::prctl::set_keepcaps(false))
            .map_err(|errno| denied(&format!("become user {uid}:{gid}"), errno))
    }
}

fn redirect(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) -> nix::Result<()> {
    nix::unistd::dup2_stdin(stdin)?;
    nix::unistd::dup2_stdout(stdout)?;
    nix::unistd::dup2_stderr(stderr)
}

/// Installs the container's filter of system calls.
fn filter(seccomp: &LinuxSeccomp) -> Result<()> {
    match libcontainer::seccomp::initialize_seccomp(seccomp) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(Fault::unimplemented(
            "the container's seccomp profile notifies a listener, which is not offered for an exec",
        )),
        Err(error) => Err(Fault::internal(format!(
            "cannot install the container's seccomp profile: {}",
            chain(&error)
        ))),
    }
}

fn denied(what: &str, errno: Errno) -> Fault {
    Fault::invalid(format!("cannot {what}: {errno}"))
}
