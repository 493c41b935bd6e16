//! User, groups and capabilities. Source: OCI runtime spec, config.md, "User", "capabilities"; capabilities(7).

use caps::{CapSet, CapsHashSet};
use libcontainer::capabilities::CapabilityExt;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use oci_spec::runtime::{Capabilities, LinuxCapabilities, User};

use crate::error::{Error, Named, Result};

/// No kernel has more.
const MAX_CAPABILITY: libc::c_ulong = 63;

/// Becomes root of the user namespace that the caller has just come into.
pub fn become_root() -> Result<()> {
    let name = || "become root of the user namespace, which must map user and group 0".to_owned();
    // Where the kernel forbids it there are none to lose.
    let _ = setgroups(&[]);
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0)).asked(name)?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).asked(name)?;
    // A change of user may show the process to others.
    nix::sys::prctl::set_dumpable(false).host(|| "hide the process from the container".into())
}

/// Becomes the user and keeps the capabilities, which are set after.
pub fn become_user(user: &User) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let name = || format!("become user {uid}:{gid}");
    nix::sys::prctl::set_keepcaps(true).host(name)?;
    setgroups(&groups).asked(|| format!("set the additional groups {:?}", user.additional_gids()))?;
    setresgid(gid, gid, gid).asked(name)?;
    setresuid(uid, uid, uid).asked(name)?;
    nix::sys::prctl::set_keepcaps(false).host(name)?;
    // The kernel has emptied the effective set of a user other than root; the filter and the bounding set need it.
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed)?;
    caps::set(None, CapSet::Effective, &permitted).map_err(failed)?;
    // A change of user may show the process to others.
    nix::sys::prctl::set_dumpable(false).host(|| "hide the process from the container".into())
}

/// Sets all five sets. What is left out is empty; what this kernel does not know cannot be given to anybody.
pub fn set_capabilities(said: Option<&LinuxCapabilities>) -> Result<()> {
    let set = |choose: fn(&LinuxCapabilities) -> &Option<Capabilities>| -> CapsHashSet {
        let said = said.and_then(|said| choose(said).as_ref());
        said.into_iter().flatten().map(CapabilityExt::to_cap).collect()
    };
    let bounding = set(LinuxCapabilities::bounding);
    let permitted = set(LinuxCapabilities::permitted);
    caps::set(None, CapSet::Inheritable, &set(LinuxCapabilities::inheritable)).map_err(failed)?;
    bound(&bounding)?;
    // What the bounding set had kept from it is only now too much for the ambient one.
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    caps::set(None, CapSet::Effective, &set(LinuxCapabilities::effective)).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &permitted).map_err(failed)?;
    for capability in set(LinuxCapabilities::ambient) {
        // The kernel gives only what is permitted and inheritable; the rest is as good as not asked for. Source: runc.
        if let Err(error) = caps::raise(None, CapSet::Ambient, capability) {
            tracing::warn!(%capability, %error, "not in the ambient set");
        }
    }
    Ok(())
}

/// Takes everything else out of the bounding set, also what the crate has no name for yet.
fn bound(keep: &CapsHashSet) -> Result<()> {
    for number in 0..=MAX_CAPABILITY {
        if keep
            .iter()
            .any(|capability| libc::c_ulong::from(capability.index()) == number)
        {
            continue;
        }
        // SAFETY: prctl(2) takes plain numbers.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }) {
            Ok(_) => {}
            // The first that this kernel does not have.
            Err(Errno::EINVAL) => return Ok(()),
            Err(errno) => return Err(Error::host("limit the capabilities", errno)),
        }
    }
    Ok(())
}

fn failed(error: caps::errors::CapsError) -> Error {
    Error::new(crate::error::Class::Internal, "set the capabilities", error.to_string())
}
