//! The service's memory: its containers, and the operations that wait for the zygote.
//!
//! The reader of the zygote's reports changes it and queues the events in the order of the reports, with
//! nothing in between: so a TaskExit can never overtake its TaskStart, however short the process's life. The one report
//! that may have to wait is the end of a container's first process: the ends of its execs are told before.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use containerd_shim_protos::api::StateResponse;
use containerd_shim_protos::events::task::{TaskCreate, TaskExecStarted, TaskExit, TaskIO, TaskOOM};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::topics;
use tokio::sync::{oneshot, watch};

use super::container::{Container, Exit, Status};
use super::process::ExecStart;
use crate::cgroup::Cgroups;
use crate::events::{Events, timestamp};
use crate::fault::{Fault, Result};
use crate::zygote::wire::{Op, Report};

/// Ends of processes that nobody claims yet: a process may end before its start is reported.
/// Orphans of containers without a PID namespace come by here as well, so there is a bound.
const MAX_UNCLAIMED: usize = 256;

/// Shared by all calls; locked only for moments, never over an await.
pub struct State {
    inner: Mutex<Inner>,
    events: Events,
}

/// What the lock protects.
#[derive(Default)]
pub struct Inner {
    /// The containers by id.
    pub containers: HashMap<String, Container>,
    /// Those that a Delete is at, until it is done.
    pub deleting: HashMap<String, Deleting>,
    /// Calls at work that create or remove something.
    pub calls: usize,
    /// Whether the shim is to end with the last of them.
    pub shutdown: bool,
    /// Whether it ends: nothing is created any more.
    pub ends: bool,
    pending: HashMap<Op, Pending>,
    unclaimed: VecDeque<Unclaimed>,
    /// Ends that nobody claimed at once, so far.
    unclaimed_count: u64,
    last_op: Op,
}

/// A container that is being deleted. containerd asks for its state while its own exit handling is at the Delete, and
/// takes one that is not found for one whose end it has dealt with.
#[derive(Clone)]
pub struct Deleting {
    /// Closed when it is gone.
    pub done: watch::Receiver<()>,
    /// Its last state.
    pub last: StateResponse,
}

/// What gets a process by an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A container gets its first process.
    Container(String),
    /// A process is executed in a container.
    Exec {
        /// The container.
        container: String,
        /// The process's name.
        exec_id: String,
    },
}

impl Target {
    /// The container, either way.
    pub fn container(&self) -> &str {
        match self {
            Target::Container(id) | Target::Exec { container: id, .. } => id,
        }
    }
}

struct Pending {
    answer: oneshot::Sender<Result<()>>,
    target: Option<Target>,
    /// [`Inner::unclaimed_count`] when it began: no earlier end can be its process's, whose pid may have been another's.
    since: u64,
}

struct Unclaimed {
    number: u64,
    pid: i32,
    exit: Exit,
}

impl State {
    /// An empty memory that publishes to `events`.
    pub fn new(events: Events) -> Self {
        Self {
            inner: Mutex::default(),
            events,
        }
    }

    /// The events' queue.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Locks the memory.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in one report of the zygote, with the descriptors that came with it.
    pub fn take(&self, report: Report, fds: Vec<OwnedFd>) {
        let mut inner = self.lock();
        match report {
            Report::Created { op, pid } => {
                let mut fds = fds.into_iter();
                if let Some((target, since)) = inner.target(op) {
                    match &target {
                        Target::Container(id) => {
                            let (start, master) = (fds.next(), fds.next());
                            self.created(&mut inner, id, pid, start, master);
                        }
                        Target::Exec { container, exec_id } => {
                            self.executed(&mut inner, container, exec_id, pid, fds.next());
                        }
                    }
                    if let Some(exit) = inner.claim(pid, since) {
                        self.exited(&mut inner, pid, exit);
                    }
                }
                inner.answer(op, Ok(()));
            }
            Report::Done { op } => inner.answer(op, Ok(())),
            Report::Failed { op, fault } => inner.answer(op, Err(fault)),
            Report::WorkerGone { op } => {
                let fault = Fault::internal(
                    "the process that worked on this call ended without an answer; the node may be out of memory",
                );
                inner.answer(op, Err(fault));
            }
            Report::Exited { pid, status } => {
                self.exited(
                    &mut inner,
                    pid,
                    Exit {
                        status,
                        at: SystemTime::now(),
                    },
                );
            }
        }
    }

    fn created(&self, inner: &mut Inner, id: &str, pid: i32, start: Option<OwnedFd>, master: Option<OwnedFd>) {
        let Some(container) = inner.containers.get_mut(id) else {
            return;
        };
        container.start = start;
        container.cgroups = Cgroups::of(pid, &container.control(id)).unwrap_or_else(|error| {
            tracing::warn!(id, pid, %error, "cannot tell the container's cgroups");
            Cgroups::default()
        });
        if let Some(master) = master
            && let Err(fault) = container.connect_terminal(pid, master)
        {
            tracing::error!(id, %fault, "the container's terminal does not work");
        }
        container.set_status(Status::Created { pid });
        self.events.publish(
            topics::TASK_CREATE_EVENT_TOPIC,
            &TaskCreate {
                container_id: id.to_owned(),
                bundle: container.bundle.path().display().to_string(),
                io: MessageField::some(TaskIO {
                    stdin: container.init.names.stdin.clone(),
                    stdout: container.init.names.stdout.clone(),
                    stderr: container.init.names.stderr.clone(),
                    ..Default::default()
                }),
                pid: pid.unsigned_abs(),
                ..Default::default()
            },
        );
    }

    fn executed(&self, inner: &mut Inner, id: &str, exec_id: &str, pid: i32, master: Option<OwnedFd>) {
        let Some(container) = inner.containers.get_mut(id) else {
            return;
        };
        let ends = container.ending.is_some();
        let Ok(exec) = container.exec_mut(exec_id) else {
            return;
        };
        if let Some(Err(fault)) = master.map(|master| exec.process.relay.connect(master)) {
            tracing::error!(id, exec_id, %fault, "the process's terminal does not work");
        }
        exec.start = ExecStart::Done;
        exec.process.set_status(Status::Running { pid });
        self.events.publish(
            topics::TASK_EXEC_STARTED_EVENT_TOPIC,
            &TaskExecStarted {
                container_id: id.to_owned(),
                exec_id: exec_id.to_owned(),
                pid: pid.unsigned_abs(),
                ..Default::default()
            },
        );
        if ends && !container.bundle.has_own_pid_namespace() {
            // It came into the cgroup when the others there had just been killed.
            container.cgroups.kill();
        }
    }

    fn exited(&self, inner: &mut Inner, pid: i32, exit: Exit) {
        let Some((id, exec_id)) = inner.owner(pid) else {
            inner.keep_unclaimed(pid, exit);
            return;
        };
        let Some(container) = inner.containers.get_mut(&id) else {
            return;
        };
        // Before the exit: containerd takes the reason of an end from what it knows when the end comes.
        self.publish_new_oom(&id, container);
        match exec_id {
            Some(exec_id) => {
                if let Ok(exec) = container.exec(&exec_id) {
                    self.publish_exit(&id, &exec_id, pid, exit);
                    exec.process.set_status(Status::Stopped { pid, exit });
                }
            }
            None => {
                if !container.bundle.has_own_pid_namespace() {
                    // The kernel ends a PID namespace with its first process; where there is none, we do.
                    container.cgroups.kill();
                }
                container.ending = Some(exit);
            }
        }
        self.settle(&id, container);
    }

    /// Tells the end of a container's first process, if there is one to tell and no exec that has to be told of first.
    pub fn settle(&self, id: &str, container: &mut Container) {
        if container.has_living_exec() {
            return;
        }
        let (Some(exit), Some(pid)) = (container.ending.take(), container.status().pid()) else {
            return;
        };
        self.publish_exit(id, id, pid, exit);
        container.set_status(Status::Stopped { pid, exit });
    }

    fn publish_exit(&self, container: &str, process: &str, pid: i32, exit: Exit) {
        self.events.publish(
            topics::TASK_EXIT_EVENT_TOPIC,
            &TaskExit {
                container_id: container.to_owned(),
                id: process.to_owned(),
                pid: pid.unsigned_abs(),
                exit_status: exit.status,
                exited_at: MessageField::some(timestamp(exit.at)),
                ..Default::default()
            },
        );
    }
}

impl State {
    /// Publishes that the kernel has killed a process of the container for want of memory; whether it has, since the
    /// last time.
    pub fn notice_oom(&self, id: &str) -> bool {
        let mut inner = self.lock();
        let container = inner.containers.get_mut(id);
        container.is_some_and(|container| self.publish_new_oom(id, container))
    }

    fn publish_new_oom(&self, id: &str, container: &mut Container) -> bool {
        let kills = container.cgroups.oom_kills();
        let new = kills > container.oom_kills;
        if new {
            container.oom_kills = kills;
            let event = TaskOOM {
                container_id: id.to_owned(),
                ..Default::default()
            };
            self.events.publish(topics::TASK_OOM_EVENT_TOPIC, &event);
        }
        new
    }
}

impl Inner {
    /// A number for a new operation, and the receiver of its answer.
    pub fn begin(&mut self, target: Option<Target>) -> (Op, oneshot::Receiver<Result<()>>) {
        self.last_op += 1;
        let (answer, answered) = oneshot::channel();
        let pending = Pending {
            answer,
            target,
            since: self.unclaimed_count,
        };
        self.pending.insert(self.last_op, pending);
        (self.last_op, answered)
    }

    fn target(&self, op: Op) -> Option<(Target, u64)> {
        let pending = self.pending.get(&op)?;
        Some((pending.target.clone()?, pending.since))
    }

    /// Container and, unless it is its first, exec id of a living process.
    fn owner(&self, pid: i32) -> Option<(String, Option<String>)> {
        self.containers.iter().find_map(|(id, container)| {
            if container.living_pid() == Some(pid) {
                return Some((id.clone(), None));
            }
            let mut execs = container.execs.iter();
            let (exec_id, _) = execs.find(|(_, exec)| exec.process.living_pid() == Some(pid))?;
            Some((id.clone(), Some(exec_id.clone())))
        })
    }

    fn keep_unclaimed(&mut self, pid: i32, exit: Exit) {
        if self.unclaimed.len() == MAX_UNCLAIMED {
            self.unclaimed.pop_front();
        }
        self.unclaimed_count += 1;
        let number = self.unclaimed_count;
        self.unclaimed.push_back(Unclaimed { number, pid, exit });
    }

    fn claim(&mut self, pid: i32, since: u64) -> Option<Exit> {
        let fits = |end: &Unclaimed| end.pid == pid && end.number > since;
        let at = self.unclaimed.iter().position(fits)?;
        self.unclaimed.remove(at).map(|end| end.exit)
    }

    /// Ends an operation; one that has been answered already is not there any more.
    pub fn answer(&mut self, op: Op, result: Result<()>) {
        if let Some(pending) = self.pending.remove(&op) {
            let _ = pending.answer.send(result);
        }
    }

    /// The zygote is gone: nothing will be answered.
    pub fn fail_all(&mut self, fault: &Fault) {
        for (_, pending) in self.pending.drain() {
            let _ = pending.answer.send(Err(fault.clone()));
        }
    }

    /// The container, or a fault that names it.
    pub fn container(&self, id: &str) -> Result<&Container> {
        self.containers.get(id).ok_or_else(|| no_such(id))
    }

    /// As [`Inner::container`], to change it.
    pub fn container_mut(&mut self, id: &str) -> Result<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| no_such(id))
    }
}

/// The fault for an unknown container.
pub fn no_such(id: &str) -> Fault {
    Fault::not_found(format!("container {} is not known to this shim", id.escape_debug()))
}

#[cfg(test)]
mod tests;
