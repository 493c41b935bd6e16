//! What makes a process one of the container's, once it is in the container's tree: limits, user, capabilities, filter.
//! A container's first process and one that is executed later take the same steps, in the order of runc
//! (`standard_init_linux.go`, `setns_init_linux.go`).

mod environment;
pub mod home;
pub mod identity;
pub mod keyring;
pub mod labels;
pub mod limits;
pub mod seccomp;

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, getcwd};
use oci_spec::runtime::{LinuxCapabilities, LinuxSeccomp, Process};

use crate::error::{Class, Error, Named, Result, shown};

/// The mask where the spec has none. Source: runc.
const UMASK: Mode = Mode::from_bits_truncate(0o022);

/// What a process is to become.
#[derive(Debug)]
pub struct Becoming<'a> {
    /// The process's own section.
    pub process: &'a Process,
    /// Its capabilities: its own, or for an executed one the container's.
    pub capabilities: Option<&'a LinuxCapabilities>,
    /// The container's filter.
    pub seccomp: Option<&'a LinuxSeccomp>,
}

impl Becoming<'_> {
    /// Takes all steps but those that belong right before the program. `notify` is given the filter's listener, if it has
    /// one. Returns the environment.
    pub fn take(&self, notify: &dyn Fn(OwnedFd) -> Result<()>) -> Result<Vec<String>> {
        let process = self.process;
        limits::schedule(process)?;
        limits::set(process.rlimits().as_deref().unwrap_or_default())?;
        umask(process.user().umask().map_or(UMASK, Mode::from_bits_truncate));
        let no_new_privileges = process.no_new_privileges().unwrap_or(false);
        if no_new_privileges {
            nix::sys::prctl::set_no_new_privs().host(|| "set no_new_privs".into())?;
        }
        // Before the user is changed, who may not see the directory; and once more after, where root may not.
        let entered = self.enter_directory();
        identity::become_user(process.user())?;
        if let (Some(filter), false) = (self.seccomp, no_new_privileges) {
            seccomp::install(filter, notify)?;
        }
        identity::set_capabilities(self.capabilities)?;
        if entered.is_err() {
            self.enter_directory()?;
        }
        // A directory that is not below the container's root has no name. Source: runc, CVE-2024-21626.
        getcwd().asked(|| {
            format!(
                "use the working directory {}, which is outside of the container",
                shown(process.cwd())
            )
        })?;
        let mut env = environment::of(process.env().as_deref().unwrap_or_default())?;
        home::ensure(&mut env, process.user().uid());
        if let (Some(filter), true) = (self.seccomp, no_new_privileges) {
            seccomp::install(filter, notify)?;
        }
        Ok(env)
    }

    fn enter_directory(&self) -> Result<()> {
        let cwd = self.process.cwd();
        let cwd = match cwd.as_os_str().is_empty() {
            true => std::path::Path::new("/"),
            false => cwd,
        };
        chdir(cwd).map_err(|errno| {
            let class = match errno {
                Errno::ENOENT | Errno::ENOTDIR => Class::NotFound,
                _ => Class::Invalid,
            };
            Error::kernel(class, format!("working directory {}", shown(cwd)), errno)
        })
    }
}
