//! The session keyring: keys of the host that a container's processes would find as theirs. libcontainer leaves it,
//! runc does not. Source: session-keyring(7).

use std::ffi::CString;

use nix::errno::Errno;

/// Starts a keyring of the container's own, inherited by all its processes.
pub fn leave(id: &str) {
    if let Err(errno) = join(&format!("_ses.{id}")).and_then(allow_search) {
        // A kernel without keys has none to hide; where seccomp forbids the call, a pod cannot make it either.
        tracing::debug!(id, %errno, "no session keyring");
    }
}

fn join(name: &str) -> nix::Result<libc::c_long> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    // SAFETY: a plain number and a C string that outlives the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })
}

/// Lets the keyring's user search it, too: who changes its user has it no more as its possessor. Source: runc.
fn allow_search(keyring: libc::c_long) -> nix::Result<()> {
    /// Of `keyctl_setperm(3)`: everything but changes of its attributes for the possessor, view and search for the user.
    const PERMISSIONS: libc::c_ulong = 0x3f1b_0000;
    // SAFETY: plain numbers.
    Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, keyring, PERMISSIONS) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_has_another_keyring() {
        // Keyrings are a thread's; this one's ends with it.
        std::thread::spawn(|| match (join("_ses.a"), join("_ses.b")) {
            (Ok(first), Ok(second)) => assert_ne!(first, second),
            (first, second) => assert_eq!((first, second), (Err(Errno::ENOSYS), Err(Errno::ENOSYS))),
        })
        .join()
        .unwrap();
    }
}
