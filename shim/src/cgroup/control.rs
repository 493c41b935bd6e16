//! Changing a running container's cgroups: its limits, and whether it may run at all.

use std::path::PathBuf;

use libcgroups::common::{CgroupConfig, CgroupManager, ControllerOpt, FreezerState, create_cgroup_manager};
use oci_spec::runtime::LinuxResources;

use crate::fault::{Fault, Kind, Result, chain};

/// Which cgroups, as `shim/confine` named them when it made them.
#[derive(Debug, Clone)]
pub struct Control {
    /// Container id.
    pub id: String,
    /// The spec's cgroup path.
    pub path: PathBuf,
    /// Whether systemd made them.
    pub systemd: bool,
}

impl Control {
    /// The directories, each with the controllers of its hierarchy; none of them on cgroup v2.
    pub fn directories(&self) -> Result<Vec<(Vec<&'static str>, PathBuf)>> {
        libcgroups::common::directories(self.config())
            .map_err(|error| Fault::internal(self.message("find the cgroups of", &error)))
    }

    fn config(&self) -> CgroupConfig {
        CgroupConfig {
            cgroup_path: self.path.clone(),
            systemd_cgroup: self.systemd,
            container_name: self.id.clone(),
        }
    }

    /// Stops all processes where they are.
    pub fn freeze(&self) -> Result<()> {
        self.set(FreezerState::Frozen, "pause")
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<()> {
        self.set(FreezerState::Thawed, "resume")
    }

    fn set(&self, state: FreezerState, what: &str) -> Result<()> {
        self.with_manager(what, |manager| manager.freeze(state))
    }

    /// Sets new limits; those that `resources` does not mention stay. Devices are not changed: what a container may
    /// open is decided at its creation.
    pub fn update(&self, mut resources: LinuxResources) -> Result<()> {
        resources.set_devices(None);
        let options = ControllerOpt {
            resources: &resources,
            disable_oom_killer: false,
            oom_score_adj: None,
            freezer_state: None,
        };
        self.with_manager("update", |manager| manager.apply(&options))
    }

    fn with_manager(
        &self,
        what: &str,
        work: impl FnOnce(&dyn CgroupManager<Error = libcgroups::Error>) -> std::result::Result<(), libcgroups::Error>,
    ) -> Result<()> {
        let fault = |error: &dyn std::error::Error| Fault::internal(self.message(what, error));
        let manager = create_cgroup_manager(self.config()).map_err(|error| fault(&error))?;
        work(&manager).map_err(|error| {
            let kind = match error {
                // The kernel does not take the value, or the node does not have the controller.
                libcgroups::Error::NoController { .. } | libcgroups::Error::NotAFileName(_) => Kind::InvalidArgument,
                libcgroups::Error::Io { ref source, .. } if source.kind() == std::io::ErrorKind::InvalidInput => {
                    Kind::InvalidArgument
                }
                _ => Kind::Internal,
            };
            Fault {
                kind,
                message: self.message(what, &error),
            }
        })
    }

    fn message(&self, what: &str, error: &dyn std::error::Error) -> String {
        format!("cannot {what} container {}: {}", self.id, chain(error))
    }
}
