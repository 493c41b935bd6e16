//! Hiding the kernel's price for moving a process into a cgroup.
//!
//! A move takes a lock for writing that every fork on the node takes for reading (`cgroup_threadgroup_rwsem`). The
//! first writer after a while waits for a whole RCU grace period, some milliseconds, to switch the lock to its slow
//! mode; those who come soon after do not (kernel `kernel/rcu/sync.c`). A container is moved once for each cgroup v1
//! hierarchy. So a throw-away process makes a move that changes nothing as soon as containerd executes the shim: the
//! wait then passes while containerd connects, and not while the user waits for the container.

use std::path::{Path, PathBuf};

use nix::unistd::{ForkResult, fork, getpid};

use super::mount_of;

/// Starts the process and does not wait for it. Must be called while this process is single-threaded. Failure costs
/// some milliseconds and nothing else, so there is no error.
pub fn expect_soon() {
    // SAFETY: the caller is single-threaded.
    if let Ok(ForkResult::Child) = unsafe { fork() } {
        // containerd reads the shim's streams until everybody has closed them.
        for fd in 0..=2 {
            // SAFETY: this process uses no standard stream any more and ends right below.
            unsafe { libc::close(fd) };
        }
        if let Some(procs) = own_procs_file() {
            let _ = std::fs::write(procs, getpid().to_string());
        }
        std::process::exit(0);
    }
}

/// `cgroup.procs` of a cgroup that this process is in.
fn own_procs_file() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    procs_file(&mounts, &own)
}

fn procs_file(mounts: &str, own: &str) -> Option<PathBuf> {
    own.lines().rev().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, point) = mount_of(mounts, controllers)?;
        Some(
            point
                .join(Path::new(path).strip_prefix(root).ok()?)
                .join("cgroup.procs"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_move_goes_to_where_the_process_is_already() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let file = procs_file(mounts, "0::/system.slice/containerd.service").unwrap();
        assert_eq!(
            file,
            Path::new("/sys/fs/cgroup/system.slice/containerd.service/cgroup.procs")
        );
        assert_eq!(procs_file(mounts, "2:cpu:/"), None);
    }
}
