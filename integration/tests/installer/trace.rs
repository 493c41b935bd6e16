//! Runs a program up to its n-th change of the file system and kills it there: before the system call is executed, as
//! SIGKILL or a power cut could do it.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use nix::{
    libc,
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// How a traced run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was killed at the point asked for.
    Killed,
    /// It ended by itself before, with this status.
    Exited(i32),
}

/// System calls that change something: files, directories, processes. `fsync` does not, to those that look after a kill:
/// what a program leaves that is killed before it is what it leaves that is killed before its next change.
fn is_change(number: u64, args: [u64; 6]) -> bool {
    let creates = |flags: u64| flags & (libc::O_CREAT as u64) != 0;
    let Ok(number) = i64::try_from(number) else {
        return false;
    };
    match number {
        libc::SYS_openat => creates(args[2]),
        libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_unlinkat
        | libc::SYS_mkdirat
        | libc::SYS_symlinkat
        | libc::SYS_linkat
        | libc::SYS_fchmod
        | libc::SYS_fchmodat
        | libc::SYS_fchown
        | libc::SYS_ftruncate
        | libc::SYS_copy_file_range
        | libc::SYS_lsetxattr
        | libc::SYS_connect
        | libc::SYS_clone
        | libc::SYS_clone3 => true,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => creates(args[1]),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename
        | libc::SYS_unlink
        | libc::SYS_rmdir
        | libc::SYS_mkdir
        | libc::SYS_symlink
        | libc::SYS_link
        | libc::SYS_chmod
        | libc::SYS_chown
        | libc::SYS_vfork => true,
        _ => false,
    }
}

/// Runs the command and kills it before its change number `n`, counted from 1.
#[expect(clippy::zombie_processes, reason = "a tracer waits by waitpid")]
pub fn kill_at(command: &mut Command, n: u32) -> End {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: one system call, async-signal-safe, between fork and exec.
    unsafe {
        command.pre_exec(|| ptrace::traceme().map_err(Into::into));
    }
    let child = command.spawn().unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    // The first stop is the exec.
    assert!(matches!(
        waitpid(pid, None).unwrap(),
        WaitStatus::Stopped(_, Signal::SIGTRAP)
    ));
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(pid, options).unwrap();
    let mut count = 0;
    let mut signal = None;
    loop {
        ptrace::syscall(pid, signal.take()).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::Exited(_, status) => return End::Exited(status),
            WaitStatus::Signaled(_, signal, _) => return End::Exited(128 + signal as i32),
            WaitStatus::PtraceSyscall(_) => {
                let info = ptrace::syscall_info(pid).unwrap();
                if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
                    continue;
                }
                // SAFETY: `op` says that this member of the union was written by the kernel.
                let entry = unsafe { info.u.entry };
                if is_change(entry.nr, entry.args) {
                    count += 1;
                }
                if count == n {
                    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
                    while !matches!(waitpid(pid, None), Ok(WaitStatus::Signaled(..)) | Err(_)) {}
                    return End::Killed;
                }
            }
            // A signal on its way, such as that of a child that has ended.
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            WaitStatus::Stopped(_, other) => signal = Some(other),
            _ => {}
        }
    }
}
