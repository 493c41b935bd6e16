//! Cgroups that systemd makes, as transient scopes. Its limits are told to systemd as well, which would otherwise
//! put its own back at the next reload.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use upstream::common::{CgroupManager as _, ControllerOpt};
use upstream::systemd;

use crate::Error;

/// How long systemd may take to put a process into its scope.
const PATIENCE: Duration = Duration::from_secs(10);

/// The scope that `path` (`slice:prefix:name`) names.
pub struct Scope {
    root: PathBuf,
    path: PathBuf,
    name: String,
}

impl Scope {
    /// A scope on the cgroup v2 hierarchy at `root`.
    pub fn new(root: &Path, path: &Path, name: &str) -> Result<Self, Error> {
        if !systemd::booted() {
            return Err(Error::Systemd(
                "the node does not run it: set SystemdCgroup = false in containerd's runtime options".to_owned(),
            ));
        }
        Ok(Self {
            root: root.to_owned(),
            path: path.to_owned(),
            name: name.to_owned(),
        })
    }

    fn manager(&self) -> Result<systemd::manager::Manager, Error> {
        systemd::manager::Manager::new(self.root.clone(), self.path.clone(), self.name.clone(), true, PATIENCE)
            .map_err(|error| Error::Systemd(error.to_string()))
    }

    /// Has systemd make the scope around `pid`.
    pub fn add_task(&self, pid: Pid) -> Result<(), Error> {
        let added = self.manager()?.add_task(pid);
        added.map_err(|error| Error::Systemd(error.to_string()))
    }

    /// Tells systemd the limits.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), Error> {
        // The original is of another generation of oci-spec; the JSON is the same.
        let fault = |error: serde_json::Error| Error::Systemd(error.to_string());
        let json = serde_json::to_value(resources).map_err(fault)?;
        let options = ControllerOpt {
            resources: &serde_json::from_value(json).map_err(fault)?,
            disable_oom_killer: false,
            oom_score_adj: None,
            freezer_state: None,
        };
        let applied = self.manager()?.apply(&options);
        applied.map_err(|error| Error::Systemd(error.to_string()))
    }

    /// Has systemd stop the scope.
    pub fn remove(&self) -> Result<(), Error> {
        let removed = self.manager()?.remove();
        removed.map_err(|error| Error::Systemd(error.to_string()))
    }
}

/// Where the scope `slice:prefix:name` is below the root of a hierarchy.
/// Source: systemd.slice(5); runc, `systemd.ExpandSlice`.
pub fn scope_path(unit: &Path) -> Result<PathBuf, Error> {
    let fault = || Error::NotAUnit(unit.display().to_string());
    let text = unit.to_str().ok_or_else(fault)?;
    let mut parts = text.split(':');
    let (Some(slice), Some(prefix), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(fault());
    };
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice").ok_or_else(fault)?;
    let mut path = PathBuf::new();
    if stem != "-" {
        let mut unit = String::new();
        for component in stem.split('-') {
            if component.is_empty() || component.contains('/') {
                return Err(fault());
            }
            if !unit.is_empty() {
                unit.push('-');
            }
            unit.push_str(component);
            path.push(format!("{unit}.slice"));
        }
    }
    if name.is_empty() || name.contains('/') || prefix.contains('/') {
        return Err(fault());
    }
    if name.ends_with(".slice") {
        path.push(name);
    } else {
        path.push(format!("{prefix}-{name}.scope"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_below_each_slice_that_its_slices_name_holds() {
        let path = |unit: &str| scope_path(Path::new(unit)).map(|path| path.display().to_string());
        assert_eq!(
            path("kubepods-burstable-pod1_2.slice:cri-containerd:abc").unwrap(),
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-abc.scope"
        );
        assert_eq!(path(":tandem:x").unwrap(), "system.slice/tandem-x.scope");
        assert_eq!(path("-.slice:a:b").unwrap(), "a-b.scope");
        for wrong in [
            "/kubepods/pod",
            "a:b",
            "a.slice:b:c:d",
            "a--b.slice:c:d",
            "a.slice:../b:c",
            "a.slice:b:",
        ] {
            assert!(matches!(path(wrong), Err(Error::NotAUnit(_))), "{wrong}");
        }
    }
}
