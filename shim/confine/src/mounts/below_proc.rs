//! What may be mounted on and below `/proc`. The kernel tells a process about itself there, and programs (this runtime,
//! too) believe what they read. So only another proc may take its place, and only a few files may be covered, which tell of
//! the machine: what lxcfs is for. Source: runc `checkProcMount`.

use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use nix::sys::stat::fstat;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::error::{Error, Result, shown};
use crate::root::tree::Tree;

/// Files that may be covered, below `/proc`.
const COVERABLE: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// Refuses a destination by its name, before anything is made there. `is_proc` tells whether a proc is what is mounted.
pub fn check_name(destination: &Path, is_proc: bool) -> Result<()> {
    let plain = lexical(destination);
    let Ok(below) = plain.strip_prefix("/proc") else {
        return Ok(());
    };
    if below.as_os_str().is_empty() {
        return if is_proc { Ok(()) } else { Err(not_a_proc(destination)) };
    }
    if COVERABLE.iter().any(|name| Path::new(name) == below) {
        return Ok(());
    }
    Err(inside(destination))
}

/// Refuses the place that the destination has led to.
pub fn check_place(tree: &Tree, destination: &Path, place: impl AsFd, is_proc: bool) -> Result<()> {
    let same = |name: &str| {
        let there = tree.locate(Path::new(name)).and_then(fstat);
        match (there, fstat(place.as_fd())) {
            (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
            _ => false,
        }
    };
    if !is_proc && same("/proc") {
        return Err(not_a_proc(destination));
    }
    let on_proc = fstatfs(place.as_fd()).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC);
    if !on_proc || is_proc && same("/proc") {
        return Ok(());
    }
    match COVERABLE.iter().any(|name| same(&format!("/proc/{name}"))) {
        true => Ok(()),
        false => Err(inside(destination)),
    }
}

fn not_a_proc(destination: &Path) -> Error {
    Error::invalid(
        format!("mount {}", shown(destination)),
        "only a proc may be mounted on /proc: remove this mount, or the volume that the image declares there",
    )
}

fn inside(destination: &Path) -> Error {
    Error::invalid(
        format!("mount {}", shown(destination)),
        "nothing may be mounted inside of /proc: remove this mount, or the volume that the image declares there",
    )
}

/// The path without `.` and `..`, as it reads.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => _ = plain.pop(),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proc_goes_on_proc_and_only_files_about_the_machine_are_covered() {
        let check = |path: &str, is_proc: bool| check_name(Path::new(path), is_proc).is_ok();
        assert!(check("/proc", true) && !check("/proc", false));
        assert!(check("/proc/cpuinfo", false) && check("proc/uptime", false));
        for path in [
            "/proc/1/fd",
            "/proc/self",
            "/x/../proc/sys",
            "/proc/./net",
            "proc//thread-self/attr",
        ] {
            assert!(!check(path, false) && !check(path, true), "{path}");
        }
        assert!(check("/process", false) && check("/a/proc/1", false));
    }
}
