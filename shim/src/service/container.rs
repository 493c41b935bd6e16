//! What the service knows of one container. A status carries what is true in it and nothing else: a created
//! task has a process and no exit, a stopped one has both.

use std::time::SystemTime;

use containerd_shim_protos::types::task::Status as TaskStatus;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::bundle::Bundle;
use crate::cgroup::Cgroups;
use crate::cgroup::control::Control;
use crate::memory::MemoryCell;
use crate::stdio::Held;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, or 128 + signal.
    pub status: u32,
    /// When the zygote reaped it.
    pub at: SystemTime,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The zygote is at it; there is no process yet.
    Creating,
    /// The first process waits for Start.
    Created {
        /// Its pid.
        pid: i32,
    },
    /// The first process runs.
    Running {
        /// Its pid.
        pid: i32,
    },
    /// The first process ended.
    Stopped {
        /// The pid it had.
        pid: i32,
        /// How it ended.
        exit: Exit,
    },
}

impl Status {
    /// The first process's pid, also after its end.
    pub fn pid(self) -> Option<i32> {
        match self {
            Status::Creating => None,
            Status::Created { pid } | Status::Running { pid } | Status::Stopped { pid, .. } => Some(pid),
        }
    }

    /// How it ended, if it has.
    pub fn exit(self) -> Option<Exit> {
        match self {
            Status::Stopped { exit, .. } => Some(exit),
            _ => None,
        }
    }

    /// containerd's word for it.
    pub fn as_task(self) -> TaskStatus {
        match self {
            Status::Creating | Status::Created { .. } => TaskStatus::CREATED,
            Status::Running { .. } => TaskStatus::RUNNING,
            Status::Stopped { .. } => TaskStatus::STOPPED,
        }
    }
}

/// The names of the streams, as State reports them back.
#[derive(Debug, Clone, Default)]
pub struct StreamNames {
    /// stdin FIFO.
    pub stdin: String,
    /// stdout FIFO or URI.
    pub stdout: String,
    /// stderr FIFO or URI.
    pub stderr: String,
}

/// One container.
#[derive(Debug)]
pub struct Container {
    /// The bundle and its spec.
    pub bundle: Bundle,
    /// Names of the streams.
    pub names: StreamNames,
    /// The shim's side of the streams.
    pub held: Held,
    /// Its cgroups, once it has a process.
    pub cgroups: Cgroups,
    /// Whether systemd made them.
    pub systemd_cgroup: bool,
    /// Whether its processes are frozen.
    pub paused: bool,
    /// The memory limit that its guest is told; Linux containers have none.
    pub memory: Option<MemoryCell>,
    /// Processes killed for want of memory that have been reported.
    pub oom_kills: u64,
    /// The task that waits for the next one.
    pub memory_watch: Option<AbortHandle>,
    status: watch::Sender<Status>,
}

impl Container {
    /// A container that the zygote is about to create.
    pub fn new(bundle: Bundle, names: StreamNames, held: Held, systemd_cgroup: bool) -> Self {
        Self {
            bundle,
            names,
            held,
            cgroups: Cgroups::default(),
            systemd_cgroup,
            paused: false,
            memory: None,
            oom_kills: 0,
            memory_watch: None,
            status: watch::Sender::new(Status::Creating),
        }
    }

    /// To change its cgroups.
    pub fn control(&self, id: &str) -> Control {
        Control {
            id: id.to_owned(),
            path: self.bundle.cgroup_path(id),
            systemd: self.systemd_cgroup,
        }
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Moves on; those who wait for the end are told.
    pub fn set_status(&self, status: Status) {
        self.status.send_replace(status);
    }

    /// To wait for a status without holding the container.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}
