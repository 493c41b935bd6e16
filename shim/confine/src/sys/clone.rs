//! clone3(2): a fork that puts the child into new namespaces and, on cgroup v2, into its cgroup at once.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;

/// CLONE_INTO_CGROUP of `include/uapi/linux/sched.h`, which libc has in a type that is too narrow.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of the fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The caller; the child's pid as the caller's PID namespace counts.
    Parent(i32),
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
        pid => Ok(Forked::Parent(i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?)),
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
