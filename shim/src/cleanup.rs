//! Taking away what a container leaves: processes, cgroups, libcontainer's state, the root file system's
//! mount. Used by the Delete call, by a Create that failed, and by the `delete` action after a shim died.

use std::path::Path;

use libcgroups::common::{CgroupConfig, CgroupManager, create_cgroup_manager};
use libcontainer::container::Container;

use crate::bundle::Bundle;
use crate::cgroup::Cgroups;
use crate::fault::{Fault, Result, chain};
use crate::rootfs;

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
        removed.and_then(|()| remove_dir(self.state))
    }

    /// The slow way: through libcontainer, which runs the poststop hooks and asks systemd where need be.
    fn remove_by_libcontainer(&self) -> Result<()> {
        match Container::load(self.state.to_owned()) {
            Ok(mut container) => container
                .delete(true)
                .map_err(|error| Fault::internal(format!("cannot delete container {}: {}", self.id, chain(&error)))),
            // libcontainer makes its directory before and removes it after everything else: there is nothing.
            Err(_) if !self.state.exists() => Ok(()),
            // The shim died while the state was being written.
            Err(_) => self.remove_cgroup_of_spec(),
        }
    }

    /// Removes the cgroup that the spec names, whatever else is known.
    pub fn remove_cgroup_of_spec(&self) -> Result<()> {
        let Some(bundle) = self.bundle else { return Ok(()) };
        let fault = |error: &dyn std::error::Error| {
            Fault::internal(format!(
                "cannot remove the cgroup of container {}: {}",
                self.id,
                chain(error)
            ))
        };
        let config = CgroupConfig {
            cgroup_path: bundle.cgroup_path(self.id),
            systemd_cgroup: self.systemd_cgroup,
            container_name: self.id.to_owned(),
        };
        let manager = create_cgroup_manager(config).map_err(|error| fault(&error))?;
        manager.remove().map_err(|error| fault(&error))
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
