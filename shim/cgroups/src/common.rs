//! What libcontainer and the shim call, under the names that libcontainer knows.

use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

pub use upstream::common::{
    CgroupConfig, CgroupSetup, DEFAULT_CGROUP_ROOT, FreezerState, GetCgroupSetupError, get_cgroup_setup,
};

use crate::stats::Stats;
use crate::systemd::{Scope, scope_path};
use crate::{Error, v1, v2};

/// Pauses between tries to remove a cgroup whose last process is ending.
const PAUSES_MS: [u64; 8] = [1, 2, 5, 20, 50, 100, 300, 500];

/// What can be done with a container's cgroups.
pub trait CgroupManager {
    /// What can go wrong.
    type Error;

    /// Creates the cgroups where they are not there, and moves the process into them.
    fn add_task(&self, pid: Pid) -> Result<(), Self::Error>;

    /// Sets limits. What the resources do not mention stays as it is.
    fn apply(&self, options: &ControllerOpt) -> Result<(), Self::Error>;

    /// Kills what is in the cgroups and removes them.
    fn remove(&self) -> Result<(), Self::Error>;

    /// Freezes or thaws all processes in the cgroups.
    fn freeze(&self, state: FreezerState) -> Result<(), Self::Error>;

    /// What the container used.
    fn stats(&self) -> Result<Stats, Self::Error>;

    /// The processes in the cgroups and below.
    fn get_all_pids(&self) -> Result<Vec<Pid>, Self::Error>;
}

/// What to apply.
#[derive(Clone, Debug)]
pub struct ControllerOpt<'a> {
    /// The spec's limits.
    pub resources: &'a LinuxResources,
    /// Unused: `resources.memory` says it.
    pub disable_oom_killer: bool,
    /// Unused: set by libcontainer.
    pub oom_score_adj: Option<i32>,
    /// Unused: [`CgroupManager::freeze`] does it.
    pub freezer_state: Option<FreezerState>,
}

/// What a manager could not do.
pub type AnyManagerError = Error;

/// Why there is no manager.
#[derive(thiserror::Error, Debug)]
pub enum CreateCgroupSetupError {
    /// The node's cgroup set-up is not known.
    #[error(transparent)]
    Setup(#[from] GetCgroupSetupError),
    /// The cgroup's name, the mount table or systemd.
    #[error(transparent)]
    Cgroup(#[from] Error),
}

/// On cgroup v1 and hybrid nodes, where each hierarchy is mounted and the directory that `config` names in it; none on
/// cgroup v2.
pub fn cgroup_v1_directories(config: CgroupConfig) -> Result<Option<Vec<(PathBuf, PathBuf)>>, CreateCgroupSetupError> {
    match create_cgroup_manager(config)? {
        AnyCgroupManager::V1(manager) => Ok(Some(manager.directories())),
        _ => Ok(None),
    }
}

/// The directories that `config` names, each with the controllers of its hierarchy; none of them on cgroup v2.
pub fn directories(config: CgroupConfig) -> Result<Vec<(Vec<&'static str>, PathBuf)>, CreateCgroupSetupError> {
    Ok(match create_cgroup_manager(config)? {
        AnyCgroupManager::V1(manager) => manager.controllers(),
        AnyCgroupManager::V2(manager) | AnyCgroupManager::Systemd(_, manager) => {
            vec![(Vec::new(), manager.directory())]
        }
    })
}

/// Removes the cgroups that `config` names as soon as nothing is in them; kills nothing. For what a creation that
/// failed leaves: its process may take a moment to end, and the name may be another's.
pub fn remove_once_empty(config: CgroupConfig) -> Result<(), CreateCgroupSetupError> {
    for (_, dir) in directories(config)? {
        remove_dir_once_empty(&dir)?;
    }
    Ok(())
}

fn remove_dir_once_empty(dir: &Path) -> Result<(), Error> {
    let mut pauses = PAUSES_MS.into_iter();
    loop {
        match (std::fs::remove_dir(dir), pauses.next()) {
            (Ok(()), _) => return Ok(()),
            (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            (Err(_), Some(pause)) => std::thread::sleep(std::time::Duration::from_millis(pause)),
            (Err(error), None) => return Err(Error::io("remove cgroup", dir)(error)),
        }
    }
}

/// The manager for what the node has.
pub enum AnyCgroupManager {
    /// cgroup v1 and hybrid.
    V1(v1::Manager),
    /// cgroup v2.
    V2(v2::Manager),
    /// cgroup v2, with systemd as the one who makes cgroups.
    Systemd(Scope, v2::Manager),
}

/// The manager of the cgroups that `config` names; creates nothing yet.
pub fn create_cgroup_manager(config: CgroupConfig) -> Result<AnyCgroupManager, CreateCgroupSetupError> {
    let root = Path::new(DEFAULT_CGROUP_ROOT);
    let setup = get_cgroup_setup()?;
    // An absolute path cannot be a unit: the kubelet's driver is cgroupfs, whatever containerd was told.
    let systemd = config.systemd_cgroup && !config.cgroup_path.is_absolute();
    let path: PathBuf = if systemd {
        scope_path(&config.cgroup_path)?
    } else {
        config.cgroup_path.clone()
    };
    Ok(match setup {
        CgroupSetup::Legacy | CgroupSetup::Hybrid => AnyCgroupManager::V1(v1::Manager::new(&path)?),
        CgroupSetup::Unified if systemd => {
            let scope = Scope::new(root, &config.cgroup_path, &config.container_name)?;
            AnyCgroupManager::Systemd(scope, v2::Manager::new(root, &path))
        }
        CgroupSetup::Unified => AnyCgroupManager::V2(v2::Manager::new(root, &path)),
    })
}

impl AnyCgroupManager {
    /// Asked by libcontainer for its own needs; the shim is always root.
    #[must_use]
    pub fn with_rootless(self, _rootless: bool) -> Self {
        self
    }

    fn files(&self) -> &dyn CgroupManager<Error = Error> {
        match self {
            Self::V1(manager) => manager,
            Self::V2(manager) | Self::Systemd(_, manager) => manager,
        }
    }
}

impl CgroupManager for AnyCgroupManager {
    type Error = AnyManagerError;

    fn add_task(&self, pid: Pid) -> Result<(), Error> {
        match self {
            Self::Systemd(scope, _) => scope.add_task(pid),
            _ => self.files().add_task(pid),
        }
    }

    fn apply(&self, options: &ControllerOpt) -> Result<(), Error> {
        if let Self::Systemd(scope, _) = self {
            scope.apply(options.resources)?;
        }
        self.files().apply(options)
    }

    fn remove(&self) -> Result<(), Error> {
        if let Self::Systemd(scope, _) = self {
            scope.remove()?;
        }
        self.files().remove()
    }

    fn freeze(&self, state: FreezerState) -> Result<(), Error> {
        self.files().freeze(state)
    }

    fn stats(&self) -> Result<Stats, Error> {
        self.files().stats()
    }

    fn get_all_pids(&self) -> Result<Vec<Pid>, Error> {
        self.files().get_all_pids()
    }
}
