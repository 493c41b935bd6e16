//! A container's cgroups on a cgroup v1 or hybrid node.

use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::hierarchy::{self, Hierarchy};
use super::{freezer, join, limits};
use crate::Error;
use crate::common::{CgroupManager, ControllerOpt, FreezerState};
use crate::stats::Stats;
use crate::tree;

/// Holds paths only; several may manage the same cgroups.
pub struct Manager {
    cgroup_path: PathBuf,
    hierarchies: Vec<Hierarchy>,
}

impl Manager {
    /// The cgroups at `cgroup_path`, relative to the root of each hierarchy.
    pub fn new(cgroup_path: &Path) -> Result<Self, Error> {
        Ok(Self {
            cgroup_path: cgroup_path.to_owned(),
            hierarchies: hierarchy::all(cgroup_path)?,
        })
    }

    /// Where each hierarchy is mounted, and the directory in it.
    pub fn directories(&self) -> Vec<(PathBuf, PathBuf)> {
        let pair = |one: &Hierarchy| (one.mount_point.clone(), one.dir.clone());
        self.hierarchies.iter().map(pair).collect()
    }

    /// The controllers of each hierarchy, and the directory in it.
    pub fn controllers(&self) -> Vec<(Vec<&'static str>, PathBuf)> {
        let pair = |one: &Hierarchy| (one.controllers.clone(), one.dir.clone());
        self.hierarchies.iter().map(pair).collect()
    }

    fn dir_of(&self, controller: &'static str, file: &str) -> Result<&Path, Error> {
        self.hierarchies
            .iter()
            .find(|hierarchy| hierarchy.has(controller))
            .map(|hierarchy| hierarchy.dir.as_path())
            .ok_or_else(|| Error::NoController {
                controller,
                file: file.to_owned(),
            })
    }
}

impl CgroupManager for Manager {
    type Error = Error;

    fn add_task(&self, pid: Pid) -> Result<(), Error> {
        join::join(&self.hierarchies, pid)
    }

    fn apply(&self, options: &ControllerOpt) -> Result<(), Error> {
        for step in limits::steps(options.resources) {
            step.take(|setting| Ok(self.dir_of(setting.controller, &setting.file)?.join(&*setting.file)))?;
        }
        Ok(())
    }

    fn remove(&self) -> Result<(), Error> {
        let freezer = self.hierarchies.iter().find(|hierarchy| hierarchy.has("freezer"));
        if let Some(Hierarchy { dir, .. }) = freezer {
            // What is frozen ends in no hierarchy.
            tree::kill(dir, Some(dir));
        }
        for Hierarchy { dir, .. } in &self.hierarchies {
            tree::remove(dir).map_err(Error::io("remove cgroup", dir))?;
        }
        Ok(())
    }

    fn freeze(&self, state: FreezerState) -> Result<(), Error> {
        let dir = self.dir_of("freezer", "freezer.state")?;
        match state {
            FreezerState::Frozen => freezer::freeze(dir),
            FreezerState::Thawed => freezer::thaw(dir),
            FreezerState::Undefined => Ok(()),
        }
    }

    /// The original's, and as slow: nothing on the way of a container's start asks for it.
    fn stats(&self) -> Result<Stats, Error> {
        upstream::v1::Manager::new(&self.cgroup_path)
            .and_then(|manager| upstream::common::CgroupManager::stats(&manager))
            .map_err(|error| Error::Stats(error.to_string()))
    }

    fn get_all_pids(&self) -> Result<Vec<Pid>, Error> {
        let Some(Hierarchy { dir, .. }) = self.hierarchies.first() else {
            return Ok(Vec::new());
        };
        let pids = tree::processes(dir).map_err(Error::io("list the processes of", dir))?;
        Ok(pids.into_iter().map(Pid::from_raw).collect())
    }
}
