//! Hiding the kernel's price for moving a process into a cgroup.
//!
//! A move takes a lock for writing that every fork on the node takes for reading (`cgroup_threadgroup_rwsem`). The
//! first writer after a while waits for a whole RCU grace period, some milliseconds, to switch the lock to its slow
//! mode; those who come soon after do not (kernel `kernel/rcu/sync.c`). On cgroup v1 there is a way around it (see the
//! workspace's libcgroups). On v2 there is none, so a throw-away process makes a move that changes nothing as soon as
//! containerd executes the shim: the wait then passes while containerd connects, and not while the user waits.

use std::path::{Path, PathBuf};

use nix::unistd::{ForkResult, fork, getpid};

/// Where cgroups are mounted on every distribution.
const ROOT: &str = "/sys/fs/cgroup";

/// Starts the process and does not wait for it. Must be called while this process is single-threaded. Failure costs
/// some milliseconds and nothing else, so there is no error.
pub fn expect_soon() {
    // The file is in the root of a v2 hierarchy only.
    if !Path::new(ROOT).join("cgroup.controllers").exists() {
        return;
    }
    // SAFETY: the caller is single-threaded.
    if let Ok(ForkResult::Child) = unsafe { fork() } {
        // containerd reads the shim's streams until everybody has closed them.
        for fd in 0..=2 {
            // SAFETY: this process uses no standard stream any more and ends right below.
            unsafe { libc::close(fd) };
        }
        let _ = std::fs::read_to_string("/proc/self/cgroup")
            .map(|own| std::fs::write(procs_file(&own), getpid().to_string()));
        std::process::exit(0);
    }
}

/// `cgroup.procs` of the cgroup that `own` (`/proc/self/cgroup` on cgroup v2) names.
fn procs_file(own: &str) -> PathBuf {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
    Path::new(ROOT).join(path.unwrap_or_default()).join("cgroup.procs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_move_goes_to_where_the_process_is_already() {
        assert_eq!(
            procs_file("0::/system.slice/containerd.service\n"),
            Path::new("/sys/fs/cgroup/system.slice/containerd.service/cgroup.procs")
        );
    }
}
