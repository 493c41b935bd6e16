//! Taking away what a container leaves: processes, cgroups, libcontainer's state, the root file system's
//! mount. Used by the Delete call, by a Create that failed, and by the `delete` action after a shim died.

use std::path::Path;
use std::time::Duration;

use libcgroups::common::{CgroupConfig, CgroupManager, create_cgroup_manager, remove_once_empty};
use libcontainer::container::Container;
use libcontainer::error::LibcontainerError;

use crate::bundle::Bundle;
use crate::cgroup::Cgroups;
use crate::fault::{Fault, Result, chain};
use crate::rootfs;

/// How often, and how far apart, a dead shim's cgroups are removed.
const ROUNDS: u32 = 3;
const ROUND: Duration = Duration::from_millis(10);

/// What is known of a container that is to be cleaned up.
pub struct Remains<'a> {
    /// Container id.
    pub id: &'a str,
    /// libcontainer's state directory.
    pub state: &'a Path,
    /// Where the root file system is mounted.
    pub rootfs: &'a Path,
    /// Its spec, where it can still be read.
    pub bundle: Option<&'a Bundle>,
    /// Its cgroups, where they are known. Otherwise libcontainer's state and the spec tell.
    pub cgroups: &'a Cgroups,
    /// Whether systemd made them.
    pub systemd_cgroup: bool,
    /// Whether the shim that made them was killed, perhaps in the middle of a call.
    pub shim_is_dead: bool,
}

impl Remains<'_> {
    /// Removes everything; what is not there (any more) is fine. Goes on after a failure and reports the first.
    pub fn remove(&self) -> Result<()> {
        let processes = self.remove_container();
        // After the processes: they may still be using it.
        let mount = rootfs::unmount_all(self.rootfs);
        processes.and(mount)
    }

    fn remove_container(&self) -> Result<()> {
        let needs_libcontainer = self.bundle.is_none_or(Bundle::has_host_hooks)
            || self.systemd_cgroup
            || self.cgroups == &Cgroups::default();
        if !needs_libcontainer {
            self.cgroups.remove()?;
            return remove_dir(self.state);
        }
        let removed = self.remove_by_libcontainer();
        self.cgroups.remove()?;
        if self.shim_is_dead {
            // Whatever libcontainer made of a creation that was cut off: its processes may be at it still, for the
            // moment that the zygote needs to end them.
            for _ in 0..ROUNDS {
                self.remove_cgroup_of_spec()?;
                std::thread::sleep(ROUND);
            }
            return remove_dir(self.state);
        }
        removed.and_then(|()| remove_dir(self.state))
    }

    /// The slow way: through libcontainer, which runs the poststop hooks and asks systemd where need be.
    fn remove_by_libcontainer(&self) -> Result<()> {
        // libcontainer makes its directory before and removes it after everything else: there is nothing, but perhaps the
        // cgroups of a creation that failed while its process was still ending.
        if !self.state.exists() {
            return self.remove_empty_cgroup_of_spec();
        }
        match Container::load(self.state.to_owned()) {
            Ok(mut container) => match container.delete(true) {
                Ok(()) => Ok(()),
                // The specification: a poststop hook's failure is for the log, and the rest goes on. Hooks come last,
                // so all that is left is the state, which the caller removes.
                Err(LibcontainerError::Hook(error)) => {
                    tracing::warn!(id = self.id, error = chain(&error), "a poststop hook failed");
                    Ok(())
                }
                Err(error) => Err(Fault::internal(format!(
                    "cannot delete container {}: {}",
                    self.id,
                    chain(&error)
                ))),
            },
            // The shim died while the state was being written.
            Err(_) => self.remove_cgroup_of_spec(),
        }
    }

    fn remove_cgroup_of_spec(&self) -> Result<()> {
        let Some(config) = self.cgroup_of_spec() else {
            return Ok(());
        };
        let manager = create_cgroup_manager(config).map_err(|error| self.cgroup_fault(&error))?;
        manager.remove().map_err(|error| self.cgroup_fault(&error))
    }

    fn remove_empty_cgroup_of_spec(&self) -> Result<()> {
        let Some(config) = self.cgroup_of_spec() else {
            return Ok(());
        };
        remove_once_empty(config).map_err(|error| self.cgroup_fault(&error))
    }

    fn cgroup_of_spec(&self) -> Option<CgroupConfig> {
        Some(CgroupConfig {
            cgroup_path: self.bundle?.cgroup_path(self.id),
            systemd_cgroup: self.systemd_cgroup,
            container_name: self.id.to_owned(),
        })
    }

    fn cgroup_fault(&self, error: &dyn std::error::Error) -> Fault {
        Fault::internal(format!(
            "cannot remove the cgroup of container {}: {}",
            self.id,
            chain(error)
        ))
    }
}

fn remove_dir(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Fault::internal(format!("cannot remove {}: {error}", dir.display())))
        }
        _ => Ok(()),
    }
}
