//! clone3(2): a fork that puts the child into new namespaces and, on cgroup v2, into its cgroup at once.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;

/// CLONE_INTO_CGROUP of `include/uapi/linux/sched.h`, which libc has in a type that is too narrow.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// As Rust's own after a panic.
const PANICKED: i32 = 101;

/// Which side of the fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The caller; the child's pid as the caller's PID namespace counts, and a descriptor of it.
    Parent(i32, OwnedFd),
    /// The new process.
    Child,
}

/// Forks a *sibling*: the child's parent is the caller's parent, which so can wait for it and is told of its end.
///
/// # Safety
/// The caller must have one thread only, so that the child may go on as a full process. It must not be the first process
/// of a PID namespace.
pub unsafe fn sibling(namespaces: CloneFlags, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Forked> {
    // SAFETY: all-zero is a valid clone_args: no stack, no TLS, no signal (a sibling's is the caller's own).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(namespaces.bits().cast_unsigned()) | libc::CLONE_PARENT.cast_unsigned() as u64;
    // SAFETY: the caller's.
    unsafe { clone(args, cgroup) }
}

/// As fork(2), for tests: the child is the caller's own.
///
/// # Safety
/// As fork(2).
#[cfg(test)]
pub unsafe fn fork_with_pidfd() -> nix::Result<Forked> {
    // SAFETY: as above.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    // SAFETY: the caller's.
    unsafe { clone(args, None) }
}

/// # Safety
/// As fork(2).
unsafe fn clone(mut args: libc::clone_args, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Forked> {
    let mut pidfd: RawFd = -1;
    args.flags |= libc::CLONE_PIDFD.cast_unsigned() as u64;
    args.pidfd = (&raw mut pidfd).addr() as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    if let Some(address) = thread_id_address() {
        // libc keeps the thread's id there and would take the parent's for its own.
        args.flags |= (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID).cast_unsigned() as u64;
        args.child_tid = address;
    }
    // SAFETY: the structure is of the size given and outlives the call; without CLONE_VM the child has a copy of the
    // caller's memory and stack; the caller has one thread.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match Errno::result(result)? {
        0 => Ok(Forked::Child),
        pid => {
            // SAFETY: the kernel has just made this descriptor for us.
            let process = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent(
                i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?,
                process,
            ))
        }
    }
}

/// Kills the process that the pidfd is of, whoever has its id by now.
pub fn kill(process: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: plain numbers and no further information.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(result).map(drop)
}

/// Ends the process if it panics: in a forked child, whatever would be unwound belongs to the process that it was forked
/// from.
#[derive(Debug)]
pub struct EndsWhereItPanics;

impl Drop for EndsWhereItPanics {
    fn drop(&mut self) {
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(PANICKED) }
    }
}

/// Where libc keeps the id of this thread, which fork(3) would correct in the child. Kernels without
/// CONFIG_CHECKPOINT_RESTORE do not tell.
fn thread_id_address() -> Option<u64> {
    let mut address: u64 = 0;
    // SAFETY: prctl(2) writes one pointer to a variable that outlives the call.
    let result = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address) };
    (result == 0 && address != 0).then_some(address)
}

/// Which kind of namespace an open file is.
pub fn namespace_type(file: BorrowedFd<'_>) -> nix::Result<CloneFlags> {
    // Source: ioctl_nsfs(2), NS_GET_NSTYPE is _IO(0xb7, 0x3).
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request has no argument.
    let kind = Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE as _) })?;
    Ok(CloneFlags::from_bits_retain(kind))
}

/// Sets the NIS domain name of the caller's UTS namespace.
pub fn set_domain_name(name: &str) -> nix::Result<()> {
    // SAFETY: bytes that outlive the call, with their length.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}
