//! Loading what may be a mutated artifact where it can do no harm; shared with the fuzz target `artifact`.

use std::fs::File;
use std::io::Write;

use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, fork, setgroups, setresgid, setresuid};
use tandem_aot::{Artifact, Digest, ModuleKind};
use wasmtime::Engine;

/// What follows the image in an entry (see `shim/aot/src/store/entry.rs`).
pub const TRAILER: usize = 120;

/// How the loading process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Loaded,
    Refused,
    Killed(Signal),
    Other(i32),
}

/// Loads the entry in `bytes` in a process of its own, which has neither rights nor much of anything.
pub fn load_confined(engine: &Engine, bytes: &[u8], kind: ModuleKind, digest: Digest) -> Ending {
    let mut file = File::from(memfd_create(c"artifact", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    // SAFETY: the child does what a guest's process does, and ends without unwinding.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, 0) => Ending::Loaded,
            WaitStatus::Exited(_, 1) => Ending::Refused,
            WaitStatus::Exited(_, code) => Ending::Other(code),
            WaitStatus::Signaled(_, signal, _) => Ending::Killed(signal),
            other => panic!("{other:?}"),
        },
        ForkResult::Child => {
            let confined = confine();
            std::panic::set_hook(Box::new(|_| {}));
            let code = if confined.is_err() {
                99
            } else {
                // SAFETY: it is not an artifact of the cache's. That is the point, and why this process is confined.
                let artifact = unsafe { Artifact::inherited(file, kind, digest) };
                i32::from(artifact.load_confined(engine).is_err())
            };
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(code) }
        }
    }
}

/// No rights, no new processes, no files, little time.
fn confine() -> nix::Result<()> {
    for (resource, limit) in [
        (Resource::RLIMIT_CPU, 5),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_NPROC, 0),
    ] {
        setrlimit(resource, limit, limit)?;
    }
    if nix::unistd::geteuid().is_root() {
        setgroups(&[])?;
        let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
    }
    nix::sys::prctl::set_no_new_privs()
}
