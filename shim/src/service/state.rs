//! The service's memory: its containers, and the operations that wait for the zygote.
//!
//! The reader of the zygote's reports changes it and queues the events in the order of the reports, with
//! nothing in between: so a TaskExit can never overtake its TaskStart, however short the container's life.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use containerd_shim_protos::events::task::{TaskCreate, TaskExit, TaskIO};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::topics;
use tokio::sync::{oneshot, watch};

use super::container::{Container, Exit, Status};
use crate::cgroup::Cgroups;
use crate::events::{Events, timestamp};
use crate::fault::{Fault, Result};
use crate::zygote::wire::{Op, Report};

/// Ends of processes that no container claims yet: a first process may end before its creation is reported.
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
    pub deleting: HashMap<String, watch::Receiver<()>>,
    /// Calls at work that create or remove something.
    pub calls: usize,
    /// Whether the shim is to end with the last of them.
    pub shutdown: bool,
    pending: HashMap<Op, Pending>,
    unclaimed: VecDeque<(i32, Exit)>,
    last_op: Op,
}

/// What the zygote answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The module's bytes are needed.
    NeedsModule,
}

struct Pending {
    answer: oneshot::Sender<Result<Answer>>,
    /// The container that a Create is about.
    creates: Option<String>,
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

    /// Takes in one report of the zygote.
    pub fn take(&self, report: Report) {
        let mut inner = self.lock();
        match report {
            Report::Created { op, pid } => {
                if let Some(id) = inner.pending.get(&op).and_then(|pending| pending.creates.clone()) {
                    self.created(&mut inner, &id, pid);
                }
                inner.answer(op, Ok(Answer::Done));
            }
            Report::Done { op } => inner.answer(op, Ok(Answer::Done)),
            Report::NeedsModule { op } => inner.answer(op, Ok(Answer::NeedsModule)),
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

    fn created(&self, inner: &mut Inner, id: &str, pid: i32) {
        let Some(container) = inner.containers.get_mut(id) else {
            return;
        };
        container.cgroups = Cgroups::of(pid).unwrap_or_else(|error| {
            tracing::warn!(id, pid, %error, "cannot tell the container's cgroups");
            Cgroups::default()
        });
        container.set_status(Status::Created { pid });
        self.events.publish(
            topics::TASK_CREATE_EVENT_TOPIC,
            &TaskCreate {
                container_id: id.to_owned(),
                bundle: container.bundle.path().display().to_string(),
                io: MessageField::some(TaskIO {
                    stdin: container.names.stdin.clone(),
                    stdout: container.names.stdout.clone(),
                    stderr: container.names.stderr.clone(),
                    ..Default::default()
                }),
                pid: pid.unsigned_abs(),
                ..Default::default()
            },
        );
        if let Some(at) = inner.unclaimed.iter().position(|(unclaimed, _)| *unclaimed == pid)
            && let Some((_, exit)) = inner.unclaimed.remove(at)
        {
            self.exited(inner, pid, exit);
        }
    }

    fn exited(&self, inner: &mut Inner, pid: i32, exit: Exit) {
        let alive = |status: Status| matches!(status, Status::Created { pid: its } | Status::Running { pid: its } if its == pid);
        let Some((id, container)) = inner.containers.iter().find(|(_, c)| alive(c.status())) else {
            if inner.unclaimed.len() == MAX_UNCLAIMED {
                inner.unclaimed.pop_front();
            }
            inner.unclaimed.push_back((pid, exit));
            return;
        };
        if !container.bundle.has_own_pid_namespace() {
            // The kernel ends a PID namespace with its first process; where there is none, we do.
            container.cgroups.kill(nix::sys::signal::Signal::SIGKILL);
        }
        self.events.publish(
            topics::TASK_EXIT_EVENT_TOPIC,
            &TaskExit {
                container_id: id.clone(),
                id: id.clone(),
                pid: pid.unsigned_abs(),
                exit_status: exit.status,
                exited_at: MessageField::some(timestamp(exit.at)),
                ..Default::default()
            },
        );
        container.set_status(Status::Stopped { pid, exit });
    }
}

impl Inner {
    /// A number for a new operation, and the receiver of its answer.
    pub fn begin(&mut self, creates: Option<String>) -> (Op, oneshot::Receiver<Result<Answer>>) {
        self.last_op += 1;
        let (answer, answered) = oneshot::channel();
        self.pending.insert(self.last_op, Pending { answer, creates });
        (self.last_op, answered)
    }

    /// Ends an operation; one that has been answered already is not there any more.
    pub fn answer(&mut self, op: Op, result: Result<Answer>) {
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
}

/// The fault for an unknown container.
pub fn no_such(id: &str) -> Fault {
    Fault::not_found(format!("container {} is not known to this shim", id.escape_debug()))
}
