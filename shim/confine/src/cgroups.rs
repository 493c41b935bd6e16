//! A new container's cgroups: made, limited and entered.
//!
//! On cgroup v2 the directory is made and limited first, and the process is born in it. On v1 a process moves itself, which
//! is quicker than being moved. systemd makes its scope around a process that is there already.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use libcgroups::common::{AnyCgroupManager, CgroupConfig, CgroupManager, ControllerOpt, create_cgroup_manager};
use nix::fcntl::OFlag;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources, Spec};

use crate::error::{Class, Error, Named, Result};
use crate::mounts::Hierarchies;

/// Cgroups to be.
pub struct Cgroups {
    id: String,
    manager: AnyCgroupManager,
    resources: LinuxResources,
}

impl Cgroups {
    /// Those that the spec names, or by the container's name; nothing is made yet.
    pub fn of(spec: &Spec, id: &str, systemd: bool) -> Result<Self> {
        let linux = spec.linux().as_ref();
        let path = path(spec, id);
        if !systemd && path.components().all(|part| part == Component::RootDir) {
            return Err(Error::invalid(
                "linux.cgroupsPath",
                "it is the root of the hierarchy, which is the node's",
            ));
        }
        let config = CgroupConfig {
            cgroup_path: path,
            systemd_cgroup: systemd,
            container_name: id.to_owned(),
        };
        let manager = create_cgroup_manager(config).map_err(|error| failed(id, &error, Class::Internal))?;
        let mut resources = linux.and_then(|linux| linux.resources().clone()).unwrap_or_default();
        // Whatever the rules say, they start from none: without any, a container could open the node's disks. Source: runc.
        let mut nothing = LinuxDeviceCgroup::default();
        nothing.set_allow(false).set_access(Some("rwm".to_owned()));
        let rules = resources.devices().clone().unwrap_or_default();
        resources.set_devices(Some(std::iter::once(nothing).chain(rules).collect()));
        Ok(Self {
            id: id.to_owned(),
            manager,
            resources,
        })
    }

    /// Refuses a cgroup that is somebody else's, who would be limited and killed with the container; or that is frozen, where
    /// nothing would ever run. Source: runc.
    pub fn expect_unused(&self) -> Result<()> {
        let refused = |why: String| Error::new(Class::Precondition, format!("cgroup of container {}", self.id), why);
        match self.manager.get_all_pids() {
            // It does not exist yet.
            Err(_) => return Ok(()),
            Ok(pids) if pids.is_empty() => {}
            Ok(pids) => {
                let why = "processes are in it already: give the container another cgroupsPath, or end them";
                return Err(refused(format!("{} {why}", pids.len())));
            }
        }
        let states = match self.hierarchies(true) {
            Hierarchies::V1(all) => all
                .into_iter()
                .map(|(_, directory)| directory.join("freezer.state"))
                .collect(),
            Hierarchies::V2 { directory, .. } => vec![directory.join("cgroup.freeze")],
        };
        let is_frozen = |file: PathBuf| {
            let state = std::fs::read_to_string(file).unwrap_or_default();
            matches!(state.trim(), "1" | "FROZEN" | "FREEZING")
        };
        match states.into_iter().any(is_frozen) {
            true => Err(refused("it is frozen: thaw it, or remove it".into())),
            false => Ok(()),
        }
    }

    /// Makes what can be made without a process. Where the process can be born in it, that is returned.
    pub fn prepare(&self) -> Result<Option<OwnedFd>> {
        let AnyCgroupManager::V2(manager) = &self.manager else {
            return Ok(None);
        };
        manager.make().map_err(|error| self.failed(&error))?;
        self.limit()?;
        let directory = manager.directory();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::open(&directory, flags, nix::sys::stat::Mode::empty())
            .map(Some)
            .host(|| format!("open cgroup {}", directory.display()))
    }

    /// Whether the calling process has to come in by itself.
    pub fn is_entered(&self) -> bool {
        matches!(self.manager, AnyCgroupManager::V1(_))
    }

    /// Brings the calling process in, which has one thread.
    pub fn enter(&self) -> Result<()> {
        self.manager
            .add_task(libcgroups::Pid::this())
            .map_err(|error| self.failed(&error))?;
        self.limit()
    }

    /// Whether somebody else has to bring the process in.
    pub fn is_adopted(&self) -> bool {
        matches!(self.manager, AnyCgroupManager::Systemd(..))
    }

    /// Brings a process in.
    pub fn adopt(&self, pid: i32) -> Result<()> {
        self.manager
            .add_task(libcgroups::Pid::from_raw(pid))
            .map_err(|error| self.failed(&error))?;
        self.limit()
    }

    /// Where they are.
    pub fn hierarchies(&self, own_namespace: bool) -> Hierarchies {
        match &self.manager {
            AnyCgroupManager::V1(manager) => Hierarchies::V1(manager.directories()),
            AnyCgroupManager::V2(manager) | AnyCgroupManager::Systemd(_, manager) => Hierarchies::V2 {
                directory: manager.directory(),
                own_namespace,
            },
        }
    }

    fn limit(&self) -> Result<()> {
        let options = ControllerOpt {
            resources: &self.resources,
            disable_oom_killer: false,
            oom_score_adj: None,
            freezer_state: None,
        };
        self.manager.apply(&options).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &libcgroups::Error) -> Error {
        let class = match error {
            libcgroups::Error::NoController { .. } | libcgroups::Error::NotAFileName(_) => Class::Invalid,
            // The kernel does not take the value.
            libcgroups::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidInput => Class::Invalid,
            libcgroups::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Class::Exhausted
            }
            _ => Class::Internal,
        };
        failed(&self.id, error, class)
    }
}

/// The cgroup's path as the spec says, or by the container's name.
pub fn path(spec: &Spec, id: &str) -> PathBuf {
    let linux = spec.linux().as_ref();
    let said = libcontainer::utils::get_cgroup_path(&linux.and_then(|linux| linux.cgroups_path().clone()), id);
    below_root(&said)
}

/// The path as it reads, which does not climb out of the hierarchy.
fn below_root(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => _ = plain.file_name().is_some() && plain.pop(),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

fn failed(id: &str, error: &dyn std::error::Error, class: Class) -> Error {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        source = cause.source();
    }
    Error::new(class, format!("cgroup of container {id}"), why)
}

/// Sets the preference of the kernel when it runs out of memory, of the calling process and its children.
pub fn set_oom_score(score: i32) -> Result<()> {
    use std::io::Write;
    let name = || {
        format!(
            "set oomScoreAdj to {score} (a lower one than the shim's needs CAP_SYS_RESOURCE, or restrict_oom_score_adj in containerd's configuration)"
        )
    };
    let file = File::options().write(true).open("/proc/self/oom_score_adj");
    file.and_then(|mut file| file.write_all(score.to_string().as_bytes()))
        .host(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_below_the_root_however_its_path_climbs() {
        for (said, meant) in [
            ("/../pods/c", "/pods/c"),
            ("../../c", "c"),
            ("/a/../../b/./c", "/b/c"),
            ("kube.slice:cri:c", "kube.slice:cri:c"),
            ("a/b", "a/b"),
        ] {
            assert_eq!(below_root(Path::new(said)), Path::new(meant), "{said}");
        }
    }
}
