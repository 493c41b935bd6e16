//! Takes everything from a worker that compiling does not need.
//!
//! In the order in which it happens, because each step needs something that a later one takes away:
//!
//! 1. the parent's signal handlers and blocked signals;
//! 2. its place in the queue of the kernel's OOM killer: it goes first, before any pod. Its place in the queue for the
//!    processors: it goes last;
//! 3. the parent's cgroups, where the requester names others to pay;
//! 4. all descriptors but the module, the output and the pipe, which becomes standard error;
//! 5. the network and IPC namespaces. A mount namespace is left alone on purpose: unsharing it copies every mount
//!    of the node, a cost that grows with the number of pods, and no path can be opened after step 9 anyway;
//! 6. memory, CPU time, file size, threads and new descriptors beyond the limits;
//! 7. groups, user, capabilities;
//! 8. a life after the parent's (the kernel forgets that request when the user changes, hence after 7);
//! 9. system calls, but for those of a reader, an allocator and a thread pool (module `seccomp`).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::unistd::{Gid, Pid, Uid, close, dup2_stderr, getppid, setgroups, setresgid, setresuid, write};

use super::{Job, seccomp};

/// The kernel's overflow user and group, which own nothing.
const NOBODY: u32 = 65534;
/// Address space that a thread reserves without using it: glibc's arena (64 MiB, aligned within 128) and its stack.
const RESERVED_PER_THREAD: u64 = 136 << 20;

/// Most threads of a compiler's user. Compilers of several caches on one node may share a user.
const MOST_THREADS: u64 = 512;
/// The same for the overflow user, which any number of other processes have.
const MOST_THREADS_OF_NOBODY: u64 = 8192;
/// The compiler's nice value: a quarter of the processor time that a process of a pod gets beside it, and less.
const NICE: libc::c_int = 10;

/// What stays open.
pub(super) struct Files {
    pub(super) source: File,
    pub(super) output: File,
}

/// Confines this process for `job`. Errors say which step has failed.
pub(super) fn confine(job: &Job<'_>, text_end: OwnedFd, parent: Pid) -> Result<Files, String> {
    // First of all, so that the errors of all that follows find their way.
    dup2_stderr(&text_end).map_err(failed("redirect its standard error"))?;
    reset_signals().map_err(failed("reset its signals"))?;
    let _ = prctl::set_name(c"tandem-compile");
    fs::write("/proc/self/oom_score_adj", "1000").map_err(failed("become the first victim of the OOM killer"))?;
    // SAFETY: plain numbers; 0 is this process.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) }).map_err(failed("lower its priority"))?;
    for procs in job.cgroups {
        join(*procs).map_err(failed("join the cgroup that pays for it"))?;
    }
    let threads = job.limits.threads_here();
    // SAFETY: this process has one thread, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    let usage = Usage::of_this_process().map_err(failed("read /proc/self/statm"))?;

    let files = keep_only(job.source, job.output).map_err(failed("close inherited descriptors"))?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC).map_err(failed("leave the node's network"))?;
    limit(job, &usage, threads).map_err(failed("limit its resources"))?;
    drop_privileges(job.user).map_err(failed("become a user without rights"))?;

    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("tie its life to its parent's"))?;
    if getppid() != parent {
        return Err("its parent has ended".into());
    }
    prctl::set_dumpable(false).map_err(failed("hide its memory"))?;
    prctl::set_no_new_privs().map_err(failed("renounce new privileges"))?;
    seccomp::load(files.source.as_raw_fd(), files.output.as_raw_fd())
        .map_err(|error| format!("restrict its system calls: {error}"))?;
    Ok(files)
}

/// Moves this process into the cgroup of an open `cgroup.procs`. Where that has been removed meanwhile, the container is
/// gone, and with it whoever would pay; the requester will say so.
fn join(procs: BorrowedFd<'_>) -> nix::Result<()> {
    match write(procs, b"0") {
        Ok(_) | Err(Errno::ENODEV) => Ok(()),
        Err(errno) => Err(errno),
    }
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

/// Closes every descriptor but standard error and new duplicates of the two files.
fn keep_only(source: &File, output: &File) -> io::Result<Files> {
    // Numbers that the parent does not use: whatever of its state might still write to a descriptor, such as a log,
    // must not hit the artifact.
    let duplicate = |file: &File| -> io::Result<File> {
        let number = fcntl(file, FcntlArg::F_DUPFD_CLOEXEC(libc::STDERR_FILENO + 1))?;
        // SAFETY: `fcntl` has just made this descriptor, and nothing else owns it.
        Ok(unsafe { File::from_raw_fd(number) })
    };
    let files = Files {
        source: duplicate(source)?,
        output: duplicate(output)?,
    };
    let kept = [libc::STDERR_FILENO, files.source.as_raw_fd(), files.output.as_raw_fd()];
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok())))
        .collect::<io::Result<Vec<Option<RawFd>>>>()?
        .into_iter()
        .flatten()
        .collect();
    for descriptor in open {
        if !kept.contains(&descriptor) {
            // Their owners live in the parent; here they are never used or dropped again, because this process ends
            // without unwinding. One that is closed already was that of the listing itself.
            let _ = close(descriptor);
        }
    }
    Ok(files)
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
    let memory = job.limits.memory_for(job.size);
    // DATA counts what can be written, which is what costs memory. AS also counts what is merely reserved: a coarse
    // second fence that mappings of other kinds cannot pass either.
    let data = usage.data.saturating_add(memory);
    let reserved = RESERVED_PER_THREAD.saturating_mul(threads as u64 + 1);
    let address_space = usage.address_space.saturating_add(memory).saturating_add(reserved);
    // Whole seconds; the hard limit kills where the signal of the soft one should not.
    let cpu = job.limits.cpu.as_secs() + u64::from(job.limits.cpu.subsec_nanos() > 0);
    let artifact = job.limits.artifact_for(job.size);
    for (resource, soft, hard) in [
        (Resource::RLIMIT_DATA, data, data),
        (Resource::RLIMIT_AS, address_space, address_space),
        (Resource::RLIMIT_CPU, cpu, cpu.saturating_add(1)),
        (Resource::RLIMIT_FSIZE, artifact, artifact),
        (Resource::RLIMIT_CORE, 0, 0),
        (Resource::RLIMIT_NOFILE, 0, 0),
        (Resource::RLIMIT_MEMLOCK, 0, 0),
        (Resource::RLIMIT_MSGQUEUE, 0, 0),
    ] {
        reduce(resource, soft, hard)?;
    }
    Ok(())
}

fn reduce(resource: Resource, soft: u64, hard: u64) -> nix::Result<()> {
    // Where the node already allows less, less it is.
    let (_, allowed) = getrlimit(resource)?;
    setrlimit(resource, soft.min(allowed), hard.min(allowed))
}

/// Becomes a user that nobody else is, or in a user namespace that does not know it, the overflow user.
fn drop_privileges(user: u32) -> nix::Result<()> {
    setgroups(&[])?;
    let threads = match become_user(user) {
        Err(Errno::EINVAL) => {
            become_user(NOBODY)?;
            MOST_THREADS_OF_NOBODY
        }
        other => other.map(|()| MOST_THREADS)?,
    };
    reduce(Resource::RLIMIT_NPROC, threads, threads)?;
    drop_capabilities()
}

fn become_user(id: u32) -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    setresgid(group, group, group)?;
    setresuid(user, user, user)
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
