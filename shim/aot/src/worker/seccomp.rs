//! The system calls of a compiler.
//!
//! An allocator, a thread pool, a file to read, one to write and a pipe: nothing else is allowed, and no memory becomes
//! executable. What is not listed fails with EPERM rather than killing, because libraries try optional calls.

use std::os::fd::RawFd;

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

/// Calls that need no look at their arguments.
const ALLOWED: &[&str] = &[
    // memory
    "brk",
    "madvise",
    "mremap",
    "munmap",
    // threads
    "exit",
    "exit_group",
    "futex",
    "getpid",
    "gettid",
    "rseq",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    // signals: the handler that tells a stack overflow, abort()
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    // time, where the vDSO cannot answer; keys of hash maps
    "clock_gettime",
    "clock_nanosleep",
    "getrandom",
    "gettimeofday",
    "nanosleep",
    "restart_syscall",
];

/// Restricts this process, and every thread that it starts, for good.
pub(super) fn load(source: RawFd, output: RawFd) -> Result<(), SeccompError> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Errno(libc::EPERM))?;
    for name in ALLOWED {
        filter.add_rule(ScmpAction::Allow, ScmpSyscall::from_name(name)?)?;
    }
    for (name, descriptor) in [("pread64", source), ("write", libc::STDERR_FILENO), ("write", output)] {
        let is_ours = ScmpArgCompare::new(0, ScmpCompareOp::Equal, u64::from(descriptor.unsigned_abs()));
        filter.add_rule_conditional(ScmpAction::Allow, ScmpSyscall::from_name(name)?, &[is_ours])?;
    }
    let not_executable = ScmpArgCompare::new(2, ScmpCompareOp::MaskedEqual(libc::PROT_EXEC.unsigned_abs().into()), 0);
    for name in ["mmap", "mprotect"] {
        filter.add_rule_conditional(ScmpAction::Allow, ScmpSyscall::from_name(name)?, &[not_executable])?;
    }
    // A thread, not a process: processes could outlive this one and keep writing to the output.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let is_thread = ScmpArgCompare::new(0, ScmpCompareOp::MaskedEqual(thread), thread);
    filter.add_rule_conditional(ScmpAction::Allow, ScmpSyscall::from_name("clone")?, &[is_thread])?;
    // A filter cannot see the flags of clone3; told that there is none, libc falls back to clone.
    filter.add_rule(ScmpAction::Errno(libc::ENOSYS), ScmpSyscall::from_name("clone3")?)?;
    // abort() signals its own process and no other.
    let own = ScmpArgCompare::new(0, ScmpCompareOp::Equal, u64::from(std::process::id()));
    filter.add_rule_conditional(ScmpAction::Allow, ScmpSyscall::from_name("tgkill")?, &[own])?;
    filter.load()
}
