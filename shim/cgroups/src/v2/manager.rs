//! A container's cgroup on a cgroup v2 node.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

use super::{devices, limits};
use crate::common::{CgroupManager, ControllerOpt, FreezerState};
use crate::stats::Stats;
use crate::{Error, device_rules, setting, tree};

/// How often the kernel is asked whether the processes have come to rest, and the pause between.
const TRIES: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(1);

/// Holds paths only; several may manage the same cgroup.
pub struct Manager {
    root: PathBuf,
    /// The cgroup's path below the root, without a leading slash.
    path: PathBuf,
}

impl Manager {
    /// The cgroup at `path` below the mount point `root`.
    pub fn new(root: &Path, path: &Path) -> Self {
        Self {
            root: root.to_owned(),
            path: path.strip_prefix("/").unwrap_or(path).to_owned(),
        }
    }

    /// The cgroup's directory.
    pub fn directory(&self) -> PathBuf {
        self.dir()
    }

    fn dir(&self) -> PathBuf {
        self.root.join(&self.path)
    }

    /// Makes the directories, each with all controllers its parent has. A controller that cannot be enabled is
    /// missed only by a limit that needs it, and that then says so.
    pub fn make(&self) -> Result<(), Error> {
        let mut dir = self.root.clone();
        for component in self.path.components() {
            enable_controllers(&dir);
            dir.push(component);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Error::io("create cgroup", dir)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn enable_controllers(dir: &Path) {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let enabled = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in available.split_whitespace() {
        if !enabled.split_whitespace().any(|name| name == controller) {
            // One by one: with all in one write, one that refuses keeps the others out.
            let _ = setting::write(&dir.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
    }
}

impl CgroupManager for Manager {
    type Error = Error;

    fn add_task(&self, pid: Pid) -> Result<(), Error> {
        self.make()?;
        let path = self.dir().join("cgroup.procs");
        setting::write(&path, &pid.to_string()).map_err(Error::io(format!("move process {pid} by"), path))
    }

    fn apply(&self, options: &ControllerOpt) -> Result<(), Error> {
        let dir = self.dir();
        for step in limits::steps(options.resources)? {
            step.take(|setting| Ok(dir.join(&*setting.file)))?;
        }
        match options.resources.devices() {
            Some(rules) => devices::guard(&dir, &device_rules::of_spec(rules)),
            None => Ok(()),
        }
    }

    fn remove(&self) -> Result<(), Error> {
        let dir = self.dir();
        tree::remove(&dir).map_err(Error::io("remove cgroup", dir))
    }

    fn freeze(&self, state: FreezerState) -> Result<(), Error> {
        let (value, event) = match state {
            FreezerState::Frozen => ("1", "frozen 1"),
            FreezerState::Thawed => ("0", "frozen 0"),
            FreezerState::Undefined => return Ok(()),
        };
        let dir = self.dir();
        let path = dir.join("cgroup.freeze");
        setting::write(&path, value).map_err(Error::io(format!("write {value} to"), &path))?;
        let events = dir.join("cgroup.events");
        let mut text = String::new();
        for _ in 0..TRIES {
            text = fs::read_to_string(&events).map_err(Error::io("read", &events))?;
            if text.lines().any(|line| line == event) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        let _ = setting::write(&path, "0");
        Err(Error::NotFrozen {
            path: dir,
            state: text.replace('\n', " "),
        })
    }

    /// The original's: nothing on the way of a container's start asks for it.
    fn stats(&self) -> Result<Stats, Error> {
        upstream::v2::manager::Manager::new(self.root.clone(), self.path.clone())
            .and_then(|manager| upstream::common::CgroupManager::stats(&manager))
            .map_err(|error| Error::Stats(error.to_string()))
    }

    fn get_all_pids(&self) -> Result<Vec<Pid>, Error> {
        let dir = self.dir();
        let pids = tree::processes(&dir).map_err(Error::io("list the processes of", dir))?;
        Ok(pids.into_iter().map(Pid::from_raw).collect())
    }
}
