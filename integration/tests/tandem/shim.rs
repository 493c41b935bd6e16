//! A look at the shim's two processes from outside: who they are, what they hold.

use std::path::Path;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tandem_integration::{Task, deadline};

/// The processes that serve a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shim {
    /// Talks to containerd.
    pub service: i32,
    /// Forks the containers.
    pub zygote: i32,
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Open descriptors.
    pub fds: usize,
    /// Memory of its own, in KiB.
    pub anonymous_kib: u64,
    /// Children, dead ones included.
    pub children: usize,
}

impl Shim {
    /// The shim of a task whose first process exists: that one's parent is the zygote, whose parent is the service.
    pub fn of(task: &Task) -> Self {
        let pid = i32::try_from(task.pid()).unwrap();
        let since = Instant::now();
        loop {
            // For a moment the parent is the worker that made it, a child of the zygote.
            if let Some(zygote) = parent(pid)
                && let Some(service) = parent(zygote)
                && std::fs::read_to_string(format!("/proc/{service}/comm")).is_ok_and(|name| name == "tandem-shim\n")
            {
                return Self { service, zygote };
            }
            assert!(since.elapsed() < deadline::SOON, "no shim above process {pid}");
            std::thread::sleep(deadline::POLL);
        }
    }

    /// Both processes.
    pub fn both(self) -> [i32; 2] {
        [self.service, self.zygote]
    }
}

/// What the process `pid` holds at this moment.
pub fn held(pid: i32) -> Held {
    let proc = Path::new("/proc").join(pid.to_string());
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let children = std::fs::read_to_string(proc.join("task").join(pid.to_string()).join("children")).unwrap();
    Held {
        fds: std::fs::read_dir(proc.join("fd")).unwrap().count(),
        anonymous_kib: anonymous.trim().trim_end_matches(" kB").parse().unwrap(),
        children: children.split_whitespace().count(),
    }
}

/// Sends SIGKILL.
pub fn kill9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

/// The parent of `pid`, from proc_pid_stat(5).
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}
