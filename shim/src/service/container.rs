//! What the service knows of one container and of its processes. A status carries what is true in it and nothing else: a created
//! task has a process and no exit, a stopped one has both.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use containerd_shim_protos::api::StateResponse;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::types::task::Status as TaskStatus;
use tandem_image::WasmLayer;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use super::process::{Exec, ExecStart, Process};
use crate::bundle::Bundle;
use crate::cgroup::Cgroups;
use crate::cgroup::control::Control;
use crate::events::timestamp;
use crate::fault::{Fault, Result};
use crate::memory::MemoryCell;
use crate::stdio::{Size, StreamNames};

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
    /// There is no process yet: the zygote is at it, or an exec waits for Start.
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

/// Where the module of a container is that is a layer of its image: an exec may run it again.
#[derive(Debug, Clone)]
pub struct OwnModule {
    /// The layer.
    pub layer: WasmLayer,
}

/// One container.
#[derive(Debug)]
pub struct Container {
    /// The bundle and its spec.
    pub bundle: Arc<Bundle>,
    /// Its first process.
    pub init: Process,
    /// The processes that were executed in it, by exec id.
    pub execs: HashMap<String, Exec>,
    /// Its module, where that is a layer of the image.
    pub module: Option<OwnModule>,
    /// The end of its first process, while an exec has not ended yet: its own is told first.
    pub ending: Option<Exit>,
    /// Its cgroups, once it has a process.
    pub cgroups: Cgroups,
    /// Whether systemd made them.
    pub systemd_cgroup: bool,
    /// Held by the calls that change what it is doing, one after the other in the order in which they came: Start, Pause,
    /// Resume, Update, Kill and Delete. Never while an exec or a hook is waited for: a kill does not wait for those.
    pub turn: Arc<Mutex<()>>,
    /// Whether its processes are frozen.
    pub paused: bool,
    /// Whether SIGKILL was sent to its first process: what is frozen from then on would never end.
    pub killed: bool,
    /// The memory limit that its guests are told, once there is one.
    pub memory: Option<MemoryCell>,
    /// Processes killed for want of memory that have been reported.
    pub oom_kills: u64,
    /// The task that waits for the next one.
    pub memory_watch: Option<AbortHandle>,
    /// The task that answers questions about modules while its process is made.
    pub questions: Option<AbortHandle>,
    /// Where a byte starts the first process; closing it ends one that was not started.
    pub start: Option<OwnedFd>,
}

impl Container {
    /// A container that the zygote is about to create.
    pub fn new(bundle: Arc<Bundle>, names: StreamNames, systemd_cgroup: bool) -> Self {
        Self {
            bundle,
            init: Process::new(names),
            execs: HashMap::new(),
            module: None,
            ending: None,
            questions: None,
            start: None,
            cgroups: Cgroups::default(),
            systemd_cgroup,
            turn: Arc::default(),
            paused: false,
            killed: false,
            memory: None,
            oom_kills: 0,
            memory_watch: None,
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

    /// The cell that holds the memory limit for its guests; made when the first of them needs it.
    pub fn memory_cell(&mut self) -> std::io::Result<&MemoryCell> {
        let cell = match self.memory.take() {
            Some(cell) => cell,
            None => {
                let linux = self.bundle.spec().linux().as_ref();
                MemoryCell::new(linux.and_then(|linux| linux.resources().as_ref()))?
            }
        };
        Ok(self.memory.insert(cell))
    }

    /// Where its first process is in its life.
    pub fn status(&self) -> Status {
        self.init.status()
    }

    /// Moves the first process on; those who wait for its end are told.
    pub fn set_status(&self, status: Status) {
        self.init.set_status(status);
    }

    /// Pid of the first process, unless that has ended.
    pub fn living_pid(&self) -> Option<i32> {
        match self.status() {
            Status::Created { pid } | Status::Running { pid } if self.ending.is_none() => Some(pid),
            _ => None,
        }
    }

    /// What State answers of the first process, or of the one that was executed as `exec_id`.
    pub fn describe(&self, id: &str, exec_id: &str) -> Result<StateResponse> {
        let process = self.process(exec_id)?;
        let status = process.status();
        let paused = self.paused && matches!(status, Status::Running { .. });
        let mut response = StateResponse {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            bundle: self.bundle.path().display().to_string(),
            pid: status.pid().map_or(0, i32::unsigned_abs),
            status: if paused { TaskStatus::PAUSED } else { status.as_task() }.into(),
            stdin: process.names.stdin.clone(),
            stdout: process.names.stdout.clone(),
            stderr: process.names.stderr.clone(),
            terminal: process.names.terminal,
            ..Default::default()
        };
        if let Some(exit) = status.exit() {
            response.exit_status = exit.status;
            response.exited_at = MessageField::some(timestamp(exit.at));
        }
        Ok(response)
    }

    /// The first process, or the one that was executed as `exec_id`.
    pub fn process(&self, exec_id: &str) -> Result<&Process> {
        if exec_id.is_empty() {
            return Ok(&self.init);
        }
        self.exec(exec_id).map(|exec| &exec.process)
    }

    /// The process that was executed as `exec_id`.
    pub fn exec(&self, exec_id: &str) -> Result<&Exec> {
        self.execs.get(exec_id).ok_or_else(|| no_such_exec(exec_id))
    }

    /// As [`Container::exec`], to change it.
    pub fn exec_mut(&mut self, exec_id: &str) -> Result<&mut Exec> {
        self.execs.get_mut(exec_id).ok_or_else(|| no_such_exec(exec_id))
    }

    /// Connects the terminal of the first process, whose pid it is.
    pub fn connect_terminal(&mut self, pid: i32, master: OwnedFd) -> Result<()> {
        if let Some(size) = self.bundle.process().and_then(Size::of) {
            // The size is a convenience; any terminal has one.
            let _ = size.apply(&master);
        }
        if self.bundle.uid() != 0 && !self.bundle.has_user_namespace() {
            // The user must be able to open `/dev/tty`'s own name anew. Descriptor 0 is the terminal.
            let _ = std::os::unix::fs::chown(format!("/proc/{pid}/fd/0"), Some(self.bundle.uid()), None);
        }
        self.init.relay.connect(master)
    }

    /// Whether an exec has a process, or may have one before anything more is heard of it.
    pub fn has_living_exec(&self) -> bool {
        self.execs
            .values()
            .any(|exec| exec.start == ExecStart::HandedOver || exec.process.living_pid().is_some())
    }
}

fn no_such_exec(exec_id: &str) -> Fault {
    Fault::not_found(format!("process {} does not exist", exec_id.escape_debug()))
}
