//! Taking away what a container leaves: processes, cgroups, the root file system's mount. Used by the Delete call, by a
//! Create that failed, and by the `delete` action after a shim died.

use std::path::Path;
use std::time::Duration;

use libcgroups::common::{CgroupConfig, CgroupManager, create_cgroup_manager, remove_once_empty};
use tandem_confine::hooks::{self, State};

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
    /// Where the root file system is mounted.
    pub rootfs: &'a Path,
    /// Its spec, where it can still be read.
    pub bundle: Option<&'a Bundle>,
    /// Its cgroups, where they are known. Otherwise the spec tells.
    pub cgroups: &'a Cgroups,
    /// Whether systemd made them.
    pub systemd_cgroup: bool,
    /// Whether the shim that made them was killed, perhaps in the middle of a call.
    pub shim_is_dead: bool,
    /// Whether its `poststop` hooks are still to run.
    pub hooks_are_due: bool,
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
        let removed = self.remove_cgroups();
        self.run_hooks();
        removed
    }

    fn remove_cgroups(&self) -> Result<()> {
        self.cgroups.remove()?;
        if self.shim_is_dead {
            // Whatever a creation that was cut off has made: its processes may be at it still, for the moment that the
            // zygote needs to end them.
            for _ in 0..ROUNDS {
                self.remove_cgroup_of_spec()?;
                std::thread::sleep(ROUND);
            }
            return Ok(());
        }
        if self.systemd_cgroup {
            return self.remove_cgroup_of_spec();
        }
        if self.cgroups == &Cgroups::default() {
            // Perhaps those of a creation that failed, while its process was still ending.
            return self.remove_empty_cgroup_of_spec();
        }
        Ok(())
    }

    /// The specification: a poststop hook's failure is for the log, and the rest goes on.
    fn run_hooks(&self) {
        let Some(bundle) = self.bundle.filter(|_| self.hooks_are_due) else {
            return;
        };
        let hooks = bundle
            .spec()
            .hooks()
            .as_ref()
            .and_then(|hooks| hooks.poststop().as_ref());
        for hook in hooks.into_iter().flatten() {
            let state = State::new(bundle.spec(), self.id, bundle.path(), "stopped", None);
            if let Err(error) = hooks::run("poststop", Some(&vec![hook.clone()]), &state) {
                tracing::warn!(id = self.id, %error, "a poststop hook failed");
            }
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
