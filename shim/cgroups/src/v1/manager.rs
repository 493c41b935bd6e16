//! A container's cgroups on a cgroup v1 or hybrid node.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::hierarchy::{self, Hierarchy};
use super::{freezer, join, limits};
use crate::Error;
use crate::common::{CgroupManager, ControllerOpt, FreezerState};
use crate::stats::Stats;

/// Pauses between tries to remove a directory whose processes are ending.
const REMOVAL_PAUSES: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(400),
];

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
        for Hierarchy { dir, .. } in &self.hierarchies {
            remove(dir)?;
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
        let mut pids = Vec::new();
        collect(dir, &mut pids)?;
        Ok(pids)
    }
}

fn collect(dir: &Path, pids: &mut Vec<Pid>) -> Result<(), Error> {
    pids.extend(processes(dir)?);
    let entries = fs::read_dir(dir).map_err(Error::io("read", dir))?;
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids)?;
        }
    }
    Ok(())
}

fn processes(dir: &Path) -> Result<Vec<Pid>, Error> {
    let path = dir.join("cgroup.procs");
    let text = fs::read_to_string(&path).map_err(Error::io("read", path))?;
    let pids = text.lines().filter_map(|line| line.trim().parse().ok());
    Ok(pids.map(Pid::from_raw).collect())
}

fn remove(dir: &Path) -> Result<(), Error> {
    let mut pauses = REMOVAL_PAUSES.iter();
    loop {
        let error = match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => error,
        };
        for pid in processes(dir).unwrap_or_default() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        match pauses.next() {
            Some(pause) => std::thread::sleep(*pause),
            None => return Err(Error::io("remove cgroup", dir)(error)),
        }
    }
}
