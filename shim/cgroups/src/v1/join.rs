//! Moving a process into its cgroups.
//!
//! A write of a pid to `cgroup.procs` moves all threads of a process and takes `cgroup_threadgroup_rwsem` for
//! writing; the first writer after a while waits there for an RCU grace period. A write of `0` to `tasks` moves only
//! the writing thread and does not take it (kernel `kernel/cgroup/cgroup.c`, `cgroup_procs_write_start`). For a
//! process with one thread both do the same.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Pid, getpid};

use super::hierarchy::Hierarchy;
use crate::{Error, setting};

/// Creates the directories and moves `pid` into them.
pub fn join(hierarchies: &[Hierarchy], pid: Pid) -> Result<(), Error> {
    let (file, text) = if pid == getpid() && is_single_threaded() {
        ("tasks", "0".to_owned())
    } else {
        ("cgroup.procs", pid.to_string())
    };
    for hierarchy in hierarchies {
        create(hierarchy)?;
        let path = hierarchy.dir.join(file);
        setting::write(&path, &text).map_err(Error::io(format!("move process {pid} by"), path))?;
    }
    Ok(())
}

fn is_single_threaded() -> bool {
    // A directory has a link for itself, one from its parent, and one from each child.
    fs::metadata("/proc/self/task").is_ok_and(|tasks| tasks.nlink() == 3)
}

fn create(hierarchy: &Hierarchy) -> Result<(), Error> {
    let dir = &hierarchy.dir;
    match fs::create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(dir).map_err(Error::io("create cgroup", dir))?;
        }
        Err(error) => return Err(Error::io("create cgroup", dir)(error)),
    }
    if hierarchy.has("cpuset") {
        inherit_cpuset(&hierarchy.mount_point, dir).map_err(Error::io("set the CPUs and memory nodes of", dir))?;
    }
    Ok(())
}

/// A new cpuset is empty, and no process can be in an empty one: it gets its parent's.
/// Source: kernel `cgroup-v1/cpusets.rst`, 2.1.
fn inherit_cpuset(mount_point: &Path, dir: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        inherited(mount_point, dir, file)?;
    }
    Ok(())
}

fn inherited(mount_point: &Path, dir: &Path, file: &str) -> io::Result<String> {
    let path = dir.join(file);
    let own = fs::read_to_string(&path)?;
    if !own.trim().is_empty() || dir == mount_point {
        return Ok(own);
    }
    let Some(parent) = dir.parent() else {
        return Ok(own);
    };
    let theirs = inherited(mount_point, parent, file)?;
    setting::write(&path, theirs.trim())?;
    Ok(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_cpuset_takes_its_parents_values_up_to_the_root() {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("pods/box");
        fs::create_dir_all(&leaf).unwrap();
        for dir in [root.path(), leaf.parent().unwrap(), &leaf] {
            let value = if dir == root.path() { "0-3\n" } else { "\n" };
            fs::write(dir.join("cpuset.cpus"), value).unwrap();
            fs::write(dir.join("cpuset.mems"), value).unwrap();
        }
        inherit_cpuset(root.path(), &leaf).unwrap();
        assert_eq!(fs::read_to_string(leaf.join("cpuset.cpus")).unwrap(), "0-3");
        assert_eq!(
            fs::read_to_string(leaf.parent().unwrap().join("cpuset.mems")).unwrap(),
            "0-3"
        );
    }

    #[test]
    fn a_process_knows_that_it_has_threads() {
        // The test harness runs this test on a thread of its own.
        assert!(!is_single_threaded());
    }
}
