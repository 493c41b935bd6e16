//! Where the node's cgroup v1 controllers are mounted.

use std::path::{Path, PathBuf};

use crate::Error;

/// The controllers a container is put under. Named hierarchies (`name=systemd`) belong to who made them.
const CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
];

/// One mounted hierarchy and the container's directory in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its controllers.
    pub controllers: Vec<&'static str>,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// The container's directory, which may not exist yet.
    pub dir: PathBuf,
}

impl Hierarchy {
    /// Whether it has the controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.contains(&controller)
    }
}

/// The hierarchies of this node, with the container's directory at `cgroup_path` below each mount point.
pub fn all(cgroup_path: &Path) -> Result<Vec<Hierarchy>, Error> {
    let path = "/proc/self/mountinfo";
    let mounts = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(parse(&mounts, cgroup_path))
}

/// Source: proc_pid_mountinfo(5): `id parent dev root mount-point options … - fstype source super-options`.
fn parse(mountinfo: &str, cgroup_path: &Path) -> Vec<Hierarchy> {
    let below = cgroup_path.strip_prefix("/").unwrap_or(cgroup_path);
    let mut all: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut right = right.split(' ');
        let (Some("cgroup"), Some(_), Some(options)) = (right.next(), right.next(), right.next()) else {
            continue;
        };
        let Some(mount_point) = left.split(' ').nth(4).map(PathBuf::from) else {
            continue;
        };
        let controllers: Vec<_> = CONTROLLERS
            .into_iter()
            .filter(|name| options.split(',').any(|option| option == *name))
            .collect();
        // The same hierarchy may be mounted in several places; the first is where everybody looks.
        let known = all.iter().any(|one| one.controllers == controllers);
        if !controllers.is_empty() && !known {
            let dir = mount_point.join(below);
            all.push(Hierarchy {
                controllers,
                mount_point,
                dir,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_controller_hierarchy_is_found_once_and_named_ones_are_left_alone() {
        let mounts = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory
40 31 0:30 / /elsewhere/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
42 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        let found = parse(mounts, Path::new("/k8s.io/box"));
        let dirs: Vec<_> = found.iter().map(|one| one.dir.to_str().unwrap()).collect();
        assert_eq!(
            dirs,
            [
                "/sys/fs/cgroup/cpu,cpuacct/k8s.io/box",
                "/sys/fs/cgroup/memory/k8s.io/box"
            ]
        );
        assert!(found[0].has("cpu") && found[0].has("cpuacct") && !found[0].has("memory"));
    }
}
