//! The Task service: every call is answered at once and nothing is done, but for one line on stdout.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty,
    KillRequest, PidsRequest, PidsResponse, ProcessInfo, ShutdownRequest, StartRequest, StartResponse, StateRequest,
    StateResponse, Status, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task::{TaskCreate, TaskDelete, TaskExit, TaskIO, TaskStart};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::topics::{
    TASK_CREATE_EVENT_TOPIC, TASK_DELETE_EVENT_TOPIC, TASK_EXIT_EVENT_TOPIC, TASK_START_EVENT_TOPIC,
};
use containerd_shim_protos::ttrpc::asynchronous::TtrpcContext;
use containerd_shim_protos::ttrpc::{Code, Error, Result, get_status};
use nix::fcntl::OFlag;
use tokio::sync::Notify;

use crate::events::Events;

/// What a task says when it is started.
const LINE: &[u8] = b"floor\n";

/// The service of one shim.
pub struct Floor {
    tasks: Mutex<HashMap<String, Container>>,
    /// Woken whenever a task has exited.
    exits: Notify,
    events: Events,
    shutdown: Arc<Notify>,
    /// This process: the pid of every task too, since they have none of their own.
    pid: u32,
}

struct Container {
    bundle: String,
    io: TaskIO,
    /// Open from Create on, as a real shim has them.
    outputs: Vec<File>,
    exit: Option<Exit>,
}

#[derive(Clone)]
struct Exit {
    status: u32,
    at: Timestamp,
}

impl Floor {
    /// A service that publishes to `events` and wakes `shutdown` when containerd wants it to end.
    pub fn new(events: Events, shutdown: Arc<Notify>) -> Self {
        let pid = std::process::id();
        Self {
            tasks: Mutex::default(),
            exits: Notify::new(),
            events,
            shutdown,
            pid,
        }
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Container>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Container) -> Result<T>) -> Result<T> {
        act(self
            .tasks()
            .get_mut(id)
            .ok_or_else(|| not_found(format!("no task {id:?}")))?)
    }

    /// Ends a task and tells everybody.
    fn exit(&self, id: &str, container: &mut Container, status: u32) {
        let exit = Exit {
            status,
            at: timestamp(),
        };
        container.outputs.clear();
        container.exit = Some(exit.clone());
        self.exits.notify_waiters();
        self.events.send(
            TASK_EXIT_EVENT_TOPIC,
            &TaskExit {
                container_id: id.to_owned(),
                id: id.to_owned(),
                pid: self.pid,
                exit_status: exit.status,
                exited_at: MessageField::some(exit.at),
                ..Default::default()
            },
        );
    }
}

#[async_trait]
impl Task for Floor {
    async fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        let io = TaskIO {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
            ..Default::default()
        };
        self.events.send(
            TASK_CREATE_EVENT_TOPIC,
            &TaskCreate {
                container_id: request.id.clone(),
                bundle: request.bundle.clone(),
                rootfs: request.rootfs,
                io: MessageField::some(io.clone()),
                pid: self.pid,
                ..Default::default()
            },
        );
        let outputs = [&io.stdout, &io.stderr]
            .into_iter()
            .filter_map(|path| output(path))
            .collect();
        self.tasks().insert(
            request.id,
            Container {
                bundle: request.bundle,
                io,
                outputs,
                exit: None,
            },
        );
        Ok(CreateTaskResponse {
            pid: self.pid,
            ..Default::default()
        })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Result<StartResponse> {
        self.with(&request.id, |container| {
            if let Some(mut stdout) = container.outputs.first() {
                // Whoever wants no output has closed the pipe; a task that writes would not notice either.
                drop(stdout.write_all(LINE));
            }
            let start = TaskStart {
                container_id: request.id.clone(),
                pid: self.pid,
                ..Default::default()
            };
            self.events.send(TASK_START_EVENT_TOPIC, &start);
            self.exit(&request.id, container, 0);
            Ok(StartResponse {
                pid: self.pid,
                ..Default::default()
            })
        })
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Result<StateResponse> {
        self.with(&request.id, |container| {
            let (status, exit_status, exited_at) = match container.exit.clone() {
                Some(exit) => (Status::STOPPED, exit.status, MessageField::some(exit.at)),
                None => (Status::CREATED, 0, MessageField::none()),
            };
            Ok(StateResponse {
                id: request.id.clone(),
                bundle: container.bundle.clone(),
                pid: self.pid,
                status: status.into(),
                stdin: container.io.stdin.clone(),
                stdout: container.io.stdout.clone(),
                stderr: container.io.stderr.clone(),
                terminal: container.io.terminal,
                exit_status,
                exited_at,
                ..Default::default()
            })
        })
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        loop {
            // Made before the look at the task: it then counts an exit that happens after the look.
            let exits = self.exits.notified();
            if let Some(exit) = self.with(&request.id, |container| Ok(container.exit.clone()))? {
                let exited_at = MessageField::some(exit.at);
                return Ok(WaitResponse {
                    exit_status: exit.status,
                    exited_at,
                    ..Default::default()
                });
            }
            exits.await;
        }
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        self.with(&request.id, |container| {
            if container.exit.is_some() {
                return Err(not_found(format!("task {:?} has exited", request.id)));
            }
            self.exit(&request.id, container, 128 + request.signal);
            Ok(Empty::new())
        })
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Result<DeleteResponse> {
        let container = self.tasks().remove(&request.id);
        let container = container.ok_or_else(|| not_found(format!("no task {:?}", request.id)))?;
        // A task may be deleted that was never started.
        let exit = container.exit.unwrap_or_else(|| Exit {
            status: 0,
            at: timestamp(),
        });
        self.events.send(
            TASK_DELETE_EVENT_TOPIC,
            &TaskDelete {
                container_id: request.id,
                pid: self.pid,
                exit_status: exit.status,
                exited_at: MessageField::some(exit.at.clone()),
                ..Default::default()
            },
        );
        let exited_at = MessageField::some(exit.at);
        Ok(DeleteResponse {
            pid: self.pid,
            exit_status: exit.status,
            exited_at,
            ..Default::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Result<PidsResponse> {
        self.with(&request.id, |_| {
            let processes = vec![ProcessInfo {
                pid: self.pid,
                ..Default::default()
            }];
            Ok(PidsResponse {
                processes,
                ..Default::default()
            })
        })
    }

    async fn connect(&self, _: &TtrpcContext, _: ConnectRequest) -> Result<ConnectResponse> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(ConnectResponse {
            shim_pid: self.pid,
            task_pid: self.pid,
            version,
            ..Default::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> Result<Empty> {
        if request.now || self.tasks().is_empty() {
            self.events.end();
            self.shutdown.notify_one();
        }
        Ok(Empty::new())
    }
}

/// Opens a FIFO of the container's, or nothing where `path` is empty or no FIFO's name.
fn output(path: &str) -> Option<File> {
    if !path.starts_with('/') {
        return None;
    }
    // Also for reading: so the open waits for nobody, and a reader that waits in its own open goes on.
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .ok()
}

fn not_found(what: String) -> Error {
    Error::RpcStatus(get_status(Code::NOT_FOUND, what))
}

/// The time of now, in UTC.
pub fn timestamp() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: now.as_secs().try_into().unwrap_or_default(),
        nanos: now.subsec_nanos().try_into().unwrap_or_default(),
        ..Default::default()
    }
}
