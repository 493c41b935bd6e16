//! The cgroups a container lives in, on cgroup v1, hybrid and v2 nodes alike: who is in them, what they
//! used, and their removal.
//!
//! `shim/confine` creates the cgroups and applies the limits. Where the container is, is then read back
//! from `/proc/<pid>/cgroup`, which is right for the cgroupfs and the systemd driver without knowing either.

pub mod attach;
pub mod control;
pub mod oom;
mod shared;
mod v1;
mod v2;

use std::io;
use std::path::{Path, PathBuf};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageFull};
use libcgroups::tree;

use crate::fault::{Fault, Result};
use control::Control;

/// One directory: the container's cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dir {
    /// Controllers of the hierarchy (`memory`, `name=systemd`, …); empty for v2.
    controllers: Vec<String>,
    path: PathBuf,
}

/// A container's cgroups, one in each hierarchy that it does not share with the shim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    dirs: Vec<Dir>,
}

impl Cgroups {
    /// The cgroups of process `pid`, without those that the shim itself is in: a hierarchy the container
    /// was not moved in is none of its own. Of a process that is ending the kernel says `/` for every hierarchy of v1, so
    /// that where nothing is found it is `control` that tells: what was asked for.
    pub fn of(pid: i32, control: &Control) -> io::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let theirs = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let found = Self::locate(&mounts, &own, &theirs);
        if !found.dirs.is_empty() {
            return Ok(found);
        }
        let named = control.directories().map_err(io::Error::other)?;
        let dirs = named.into_iter().map(|(controllers, path)| Dir {
            controllers: controllers.into_iter().map(str::to_owned).collect(),
            path,
        });
        Ok(Self { dirs: dirs.collect() })
    }

    fn locate(mountinfo: &str, own: &str, theirs: &str) -> Self {
        let own: Vec<&str> = own.lines().collect();
        let dirs = theirs
            .lines()
            .filter(|line| !own.contains(line))
            .filter_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                let (controllers, path) = (fields.next()?, fields.next()?);
                let (root, mount_point) = mount_of(mountinfo, controllers)?;
                // The root is everybody's: what is removed or killed with a container's cgroup must not be that.
                let below = Path::new(path).strip_prefix(root).ok().filter(|_| path != "/")?;
                Some(Dir {
                    controllers: controllers
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(str::to_owned)
                        .collect(),
                    path: mount_point.join(below),
                })
            })
            .collect();
        Self { dirs }
    }

    /// Process ids in the cgroups and below, each once.
    pub fn pids(&self) -> Vec<i32> {
        // Every hierarchy knows every process; the first that is readable tells them all.
        let mut all = self.dirs.iter().filter_map(|dir| tree::processes(&dir.path).ok());
        all.next().unwrap_or_default().into_iter().collect()
    }

    /// Sends a signal, by its number, to every process in the cgroups.
    pub fn signal(&self, number: i32) {
        if let Some(dir) = self.dirs.first() {
            tree::signal(&dir.path, number);
        }
    }

    /// Ends every process in the cgroups, also those that are frozen, before they run on.
    pub fn kill(&self) {
        let freezer = self.controller("freezer");
        let all = freezer.or_else(|| self.dirs.first().map(|dir| dir.path.as_path()));
        if let Some(dir) = all {
            tree::kill(dir, freezer);
        }
    }

    /// Removes the cgroups and those the container made below them, killing what is left inside.
    pub fn remove(&self) -> Result<()> {
        if let Some(freezer) = self.controller("freezer")
            && tree::processes(freezer).is_ok_and(|left| !left.is_empty())
        {
            // What is frozen ends in no hierarchy.
            self.kill();
        }
        for dir in &self.dirs {
            tree::remove(&dir.path).map_err(|error| {
                Fault::internal(format!(
                    "cannot remove cgroup {}: {error}; a process in it may be stuck in the kernel",
                    dir.path.display()
                ))
            })?;
        }
        Ok(())
    }

    /// Whether the node accounts in cgroup v2 only.
    fn unified(&self) -> Option<&Path> {
        match self.dirs.as_slice() {
            [only] if only.controllers.is_empty() => Some(&only.path),
            _ => None,
        }
    }

    fn controller(&self, name: &str) -> Option<&Path> {
        self.dirs
            .iter()
            .find(|dir| dir.controllers.iter().any(|controller| controller == name))
            .map(|dir| dir.path.as_path())
    }

    /// What the container used: containerd's cgroup v1 or v2 `Metrics`, as the node has.
    pub fn stats(&self) -> Result<Any> {
        match self.unified() {
            Some(path) => pack(&v2::metrics(path)),
            None => pack(&v1::metrics(self)),
        }
    }
}

fn pack<M: Message + MessageFull>(metrics: &M) -> Result<Any> {
    let value = metrics
        .write_to_bytes()
        .map_err(|error| Fault::internal(format!("metrics cannot be encoded: {error}")))?;
    Ok(Any {
        type_url: M::descriptor().full_name().to_owned(),
        value,
        ..Default::default()
    })
}

/// Root and mount point of the hierarchy with exactly these controllers (empty: v2).
/// Source: proc_pid_mountinfo(5): `id parent dev root mount-point options … - fstype source super-options`.
fn mount_of<'a>(mountinfo: &'a str, controllers: &str) -> Option<(&'a Path, &'a Path)> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (fstype, _source, options) = (right.next()?, right.next()?, right.next()?);
        let matches = match fstype {
            "cgroup2" => controllers.is_empty(),
            "cgroup" => {
                !controllers.is_empty()
                    && controllers
                        .split(',')
                        .all(|name| options.split(',').any(|option| option == name))
            }
            _ => false,
        };
        matches.then(|| (Path::new(root), Path::new(point)))
    })
}

/// A number from a cgroup file; `max` is the largest, an absent file none.
fn number(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    match text.trim() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

/// A "flat keyed" cgroup file (`key value` a line). Source: kernel admin-guide/cgroup-v2.rst.
fn table(path: &Path) -> std::collections::HashMap<String, u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 /docker /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn only_hierarchies_that_the_container_was_moved_in_are_its_own() {
        let own = "4:memory:/docker/x\n2:cpu:/\n1:name=systemd:/\n0::/";
        let theirs = "4:memory:/docker/pod/c\n2:cpu:/pod/c\n1:name=systemd:/\n0::/pod/c";
        let cgroups = Cgroups::locate(HYBRID, own, theirs);
        let paths: Vec<_> = cgroups.dirs.iter().map(|dir| dir.path.to_str().unwrap()).collect();
        assert_eq!(
            paths,
            [
                "/sys/fs/cgroup/memory/pod/c",
                "/sys/fs/cgroup/cpu/pod/c",
                "/sys/fs/cgroup/unified/pod/c"
            ]
        );
        assert_eq!(
            cgroups.controller("cpu").unwrap(),
            Path::new("/sys/fs/cgroup/cpu/pod/c")
        );
        assert!(cgroups.unified().is_none());
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_tables_say_a_cgroup_is_below_its_mount_point(
            mounts in "((\\d |/|a| - |cgroup2? |,cpu|\n){0,12})", theirs in "((\\d|:|cpu|/|\\.\\.|\n){0,12})",
        ) {
            let mounts = format!("{HYBRID}\n{mounts}");
            for dir in Cgroups::locate(&mounts, "", &theirs).dirs {
                assert!(dir.path.starts_with("/"), "{dir:?}");
            }
        }
    }

    #[test]
    fn the_root_of_a_hierarchy_is_never_a_containers() {
        let own = "4:memory:/docker/x\n2:cpu:/shims\n0::/shims";
        assert_eq!(
            Cgroups::locate(HYBRID, own, "4:memory:/\n2:cpu:/\n0::/"),
            Cgroups::default()
        );
    }

    #[test]
    fn a_pure_v2_node_is_recognised() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let cgroups = Cgroups::locate(mounts, "0::/system.slice/containerd.service", "0::/kubepods/p/c");
        assert_eq!(cgroups.unified().unwrap(), Path::new("/sys/fs/cgroup/kubepods/p/c"));
    }

    #[test]
    fn a_process_in_the_shims_own_cgroups_has_none_of_its_own() {
        let own = "2:cpu:/\n0::/";
        assert_eq!(Cgroups::locate(HYBRID, own, own), Cgroups::default());
    }
}
