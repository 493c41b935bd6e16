//! The filter of system calls. libcontainer builds it; its listener, if it has one, goes to the runtime.

use std::os::fd::{FromRawFd, OwnedFd};

use libcontainer::seccomp::initialize_seccomp;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSyscall};

use crate::error::{Class, Error, Result};

/// Installs it. What comes after must be in the profile.
pub fn install(filter: &LinuxSeccomp, notify: &dyn Fn(OwnedFd) -> Result<()>) -> Result<()> {
    let is_ours = |rule: &LinuxSyscall| rule.names().iter().any(|name| name == "sendmsg");
    let rules = filter.syscalls().as_deref().unwrap_or_default();
    if rules
        .iter()
        .any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify && is_ours(rule))
    {
        return Err(Error::invalid(
            "seccomp profile",
            "it notifies of sendmsg, by which the listener itself is passed on: nobody could ever answer",
        ));
    }
    let listener = initialize_seccomp(filter).map_err(|error| {
        let mut why = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            why = format!("{why}: {cause}");
            source = cause.source();
        }
        Error::new(Class::Invalid, "install the seccomp profile", why)
    })?;
    match listener {
        // SAFETY: the kernel has just made this descriptor for this process, and libseccomp gave it away.
        Some(listener) => notify(unsafe { OwnedFd::from_raw_fd(listener) }),
        None => Ok(()),
    }
}
