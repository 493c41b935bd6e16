//! Resource limits above the shim's own. libcontainer sets limits inside the container's user namespace, where nobody
//! may raise a hard limit; so the worker raises its own first, from which the container then goes down.

use nix::errno::Errno;
use oci_spec::runtime::{PosixRlimitType, Spec};

use crate::fault::{Fault, Result};

/// Raises this process's hard limits to those of `spec` where they are higher.
pub fn allow(spec: &Spec) -> Result<()> {
    let limits = spec.process().as_ref().and_then(|process| process.rlimits().as_deref());
    for limit in limits.unwrap_or_default() {
        raise(limit.typ(), limit.hard()).map_err(|errno| {
            Fault::invalid(format!(
                "cannot raise {:?} to {}: {errno}; lower it in the container's spec",
                limit.typ(),
                limit.hard()
            ))
        })?;
    }
    Ok(())
}

fn raise(kind: PosixRlimitType, hard: u64) -> nix::Result<()> {
    // The enumeration has the kernel's numbers, which libcontainer relies on too.
    let kind = kind as u32;
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a plain number and a structure that outlives the call.
    Errno::result(unsafe { libc::getrlimit(kind, &raw mut limit) })?;
    if hard <= limit.rlim_max {
        return Ok(());
    }
    limit.rlim_max = hard;
    // SAFETY: as above.
    Errno::result(unsafe { libc::setrlimit(kind, &raw const limit) }).map(drop)
}
