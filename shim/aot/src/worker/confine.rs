//! Takes everything from a worker that compiling does not need.
//!
//! In the order in which it happens, because each step needs something that a later one takes away:
//!
//! 1. the parent's signal handlers and blocked signals;
//! 2. its place in the queue of the kernel's OOM killer: it goes first;
//! 3. all descriptors but the output and the pipe, which becomes standard error;
//! 4. the network and IPC namespaces. A mount namespace is left alone on purpose: unsharing it copies every mount
//!    of the node, a cost that grows with the number of pods, and no path can be opened after step 8 anyway;
//! 5. memory, CPU time, file size and new descriptors beyond the limits;
//! 6. groups, user, capabilities;
//! 7. a life after the parent's (the kernel forgets that request when the user changes, hence after 6);
//! 8. system calls, but for those of an allocator and a thread pool (module `seccomp`).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::unistd::{Gid, Pid, Uid, close, dup2_stderr, getppid, setgroups, setresgid, setresuid};

use super::{Job, seccomp};

/// The kernel's overflow user and group, which own nothing.
const NOBODY: u32 = 65534;
/// Address space that a thread reserves without using it: glibc's arena (64 MiB, aligned within 128) and its stack.
const RESERVED_PER_THREAD: u64 = 136 << 20;

/// Confines this process for `job`; returns the output file. Errors say which step has failed.
pub(super) fn confine(job: &Job<'_>, text_end: OwnedFd, parent: Pid) -> Result<File, String> {
    // First of all, so that the errors of all that follows find their way.
    dup2_stderr(&text_end).map_err(failed("redirect its standard error"))?;
    reset_signals().map_err(failed("reset its signals"))?;
    let _ = prctl::set_name(c"tandem-compile");
    // Raising one's own score is always allowed; without a procfs there is no OOM killer to ask either.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let threads = job.limits.threads_here();
    // SAFETY: this process has one thread, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    let usage = Usage::of_this_process().map_err(failed("read /proc/self/statm"))?;

    let output = keep_only(job.output).map_err(failed("close inherited descriptors"))?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC).map_err(failed("leave the node's network"))?;
    limit(job, &usage, threads).map_err(failed("limit its resources"))?;
    drop_privileges().map_err(failed("become nobody"))?;

    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("tie its life to its parent's"))?;
    if getppid() != parent {
        return Err("its parent has ended".into());
    }
    prctl::set_dumpable(false).map_err(failed("hide its memory"))?;
    prctl::set_no_new_privs().map_err(failed("renounce new privileges"))?;
    seccomp::load(output.as_raw_fd()).map_err(|error| format!("restrict its system calls: {error}"))?;
    Ok(output)
}

fn failed<E: std::fmt::Display>(step: &str) -> impl FnOnce(E) -> String {
    move |error| format!("it cannot {step}: {error}")
}

/// Gives signals their default meaning, except that a write beyond the limit is an error instead of the end.
fn reset_signals() -> nix::Result<()> {
    use Signal::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
    let set = |signal, handler| {
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: neither the default nor ignoring runs any code of this process.
        unsafe { sigaction(signal, &action) }.map(drop)
    };
    for signal in [
        SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU,
    ] {
        set(signal, SigHandler::SigDfl)?;
    }
    set(SIGXFSZ, SigHandler::SigIgn)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Closes every descriptor but standard error and a new duplicate of `output`.
fn keep_only(output: &File) -> io::Result<File> {
    // A number that the parent does not use: whatever of its state might still write to a descriptor, such as a log,
    // must not hit the artifact.
    let number = fcntl(output, FcntlArg::F_DUPFD_CLOEXEC(libc::STDERR_FILENO + 1))?;
    // SAFETY: `fcntl` has just made this descriptor, and nothing else owns it.
    let output = unsafe { File::from_raw_fd(number) };
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok())))
        .collect::<io::Result<Vec<Option<RawFd>>>>()?
        .into_iter()
        .flatten()
        .collect();
    for descriptor in open {
        if descriptor != libc::STDERR_FILENO && descriptor != number {
            // Their owners live in the parent; here they are never used or dropped again, because this process ends
            // without unwinding. One that is closed already was that of the listing itself.
            let _ = close(descriptor);
        }
    }
    Ok(output)
}

/// What this process has of its parent, on top of which the limits are counted.
struct Usage {
    address_space: u64,
    data: u64,
}

impl Usage {
    fn of_this_process() -> io::Result<Self> {
        // Pages: size resident shared text lib data dt; see proc_pid_statm(5).
        let statm = fs::read_to_string("/proc/self/statm")?;
        let field = |index| -> io::Result<u64> {
            let pages = statm
                .split_ascii_whitespace()
                .nth(index)
                .and_then(|text| text.parse::<u64>().ok());
            pages
                .map(|pages| pages * page_size())
                .ok_or_else(|| io::ErrorKind::InvalidData.into())
        };
        Ok(Self {
            address_space: field(0)?,
            data: field(5)?,
        })
    }
}

fn page_size() -> u64 {
    // SAFETY: asks for a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

fn limit(job: &Job<'_>, usage: &Usage, threads: usize) -> nix::Result<()> {
    let memory = job.limits.memory_for(job.bytes.len());
    // DATA counts what can be written, which is what costs memory. AS also counts what is merely reserved: a coarse
    // second fence that mappings of other kinds cannot pass either.
    let data = usage.data.saturating_add(memory);
    let reserved = RESERVED_PER_THREAD.saturating_mul(threads as u64 + 1);
    let address_space = usage.address_space.saturating_add(memory).saturating_add(reserved);
    // Whole seconds; the hard limit kills where the signal of the soft one should not.
    let cpu = job.limits.cpu.as_secs() + u64::from(job.limits.cpu.subsec_nanos() > 0);
    for (resource, soft, hard) in [
        (Resource::RLIMIT_DATA, data, data),
        (Resource::RLIMIT_AS, address_space, address_space),
        (Resource::RLIMIT_CPU, cpu, cpu.saturating_add(1)),
        (
            Resource::RLIMIT_FSIZE,
            job.limits.artifact_bytes,
            job.limits.artifact_bytes,
        ),
        (Resource::RLIMIT_CORE, 0, 0),
        (Resource::RLIMIT_NOFILE, 0, 0),
        (Resource::RLIMIT_MEMLOCK, 0, 0),
        (Resource::RLIMIT_MSGQUEUE, 0, 0),
    ] {
        // Where the node already allows less, less it is.
        let (_, allowed) = getrlimit(resource)?;
        setrlimit(resource, soft.min(allowed), hard.min(allowed))?;
    }
    Ok(())
}

fn drop_privileges() -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    drop_capabilities()
}

/// Leaving user 0 drops all capabilities unless the parent has set one of the secure bits; this drops them always.
/// The bounding set needs no care: it is for programs that are executed, and none can be.
fn drop_capabilities() -> nix::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: two sets of three 32-bit masks.
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    let sets = [0u32; 6];
    // SAFETY: both arrays have the layout of the structures of capset(2), which only reads them.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    Errno::result(result).map(drop)
}
