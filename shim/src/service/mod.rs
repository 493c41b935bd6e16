//! The Task service: containerd's calls, each a few lines over the shim's state and its zygote.
//! Source: containerd `api/runtime/task/v3/shim.proto`; v2 has the same messages under another name.

mod blocking;
mod container;
mod create;
mod ending;
mod exec;
mod lifecycle;
mod modules;
mod process;
mod reservation;
mod resources;
mod state;
mod zygote_link;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedOutputStream, MessageField};
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::ttrpc::{self, asynchronous::TtrpcContext};
use containerd_shim_protos::types::task::ProcessInfo;
use tandem_image::Resolver;
use tokio::sync::Notify;

use crate::cgroup::Cgroups;
use crate::events::{Events, timestamp};
use crate::fault::{Fault, Result};
use crate::node_config::NodeConfig;
use crate::stdio::Size;
use container::Status;
use state::State;
use zygote_link::ZygoteLink;

/// Where and for whom the service works.
pub struct Settings {
    /// The node's configuration.
    pub config: NodeConfig,
    /// containerd namespace.
    pub namespace: String,
    /// containerd's gRPC socket, for images.
    pub containerd: String,
    /// The shim's own socket.
    pub socket: PathBuf,
}

/// The service; one a shim, for all the containers of its group. A copy is the same service.
#[derive(Clone)]
pub struct Service {
    state: Arc<State>,
    zygote: ZygoteLink,
    images: Arc<Resolver>,
    config: Arc<NodeConfig>,
    namespace: Arc<str>,
    /// The socket, until it was taken away.
    socket: Arc<Mutex<Option<PathBuf>>>,
    exit: Arc<Notify>,
}

impl Service {
    /// A service on the current runtime; `exit` is notified when the shim is to end.
    pub fn new(settings: Settings, zygote: OwnedFd, events: Events, exit: Arc<Notify>) -> Result<Self> {
        let state = Arc::new(State::new(events));
        let gone = Arc::clone(&exit);
        let zygote = ZygoteLink::new(zygote, Arc::clone(&state), move || gone.notify_one())
            .map_err(|error| Fault::internal(format!("cannot watch the zygote's socket: {error}")))?;
        let images = Arc::new(Resolver::new(settings.containerd, settings.namespace.clone()));
        Ok(Self {
            state,
            zygote,
            images,
            config: Arc::new(settings.config),
            namespace: settings.namespace.into(),
            socket: Arc::new(Mutex::new(Some(settings.socket))),
            exit,
        })
    }

    /// Waits until containerd has taken all events, or its patience ends.
    pub async fn drain_events(&self, patience: std::time::Duration) {
        self.state.events().drain(patience).await;
    }

    /// Whether there is no container, and none on its way in or out.
    pub fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.containers.is_empty() && state.calls == 0
    }

    /// Runs a call to its end even if containerd stops waiting for it: half a create or delete would be neither there
    /// nor gone.
    async fn to_its_end<T: Send + 'static>(&self, call: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let counted = self.begin_call();
        let call = async move {
            let result = call.await;
            drop(counted);
            result
        };
        tokio::spawn(call)
            .await
            .unwrap_or_else(|error| Err(Fault::internal(format!("the call failed in the shim: {error}"))))
    }

    fn state_of(&self, id: &str, exec_id: &str) -> Result<api::StateResponse> {
        let state = self.state.lock();
        match state.deleting.get(id) {
            Some(deleting) if exec_id.is_empty() => Ok(deleting.last.clone()),
            _ => state.container(id)?.describe(id, exec_id),
        }
    }

    /// The container's processes, those of execs with their names. Of one that has ended it is the pid it had:
    /// containerd 2.3 asks for them when it comes back from a restart, and takes a shim without any for a leaked one,
    /// whose exit it then never reports.
    fn pids_of(&self, id: &str) -> Result<Vec<ProcessInfo>> {
        let (status, cgroups, execs) = {
            let state = self.state.lock();
            let container = state.container(id)?;
            let execs = container.execs.iter();
            let execs: HashMap<i32, String> = execs
                .filter_map(|(exec_id, exec)| Some((exec.process.living_pid()?, exec_id.clone())))
                .collect();
            (container.status(), container.cgroups.clone(), execs)
        };
        let pids = match status {
            Status::Creating => Vec::new(),
            Status::Created { pid } | Status::Running { pid } => {
                let pids = cgroups.pids();
                // One that has ended is in no cgroup any more, and is not known to have ended before it is reaped. A
                // shim without processes is taken for a leaked one by a containerd that comes back at this moment.
                if pids.is_empty() { vec![pid] } else { pids }
            }
            Status::Stopped { pid, .. } => vec![pid],
        };
        Ok(pids
            .into_iter()
            .map(|pid| ProcessInfo {
                pid: pid.unsigned_abs(),
                info: execs.get(&pid).map(|exec_id| process_details(exec_id)).into(),
                ..Default::default()
            })
            .collect())
    }

    fn cgroups_of(&self, id: &str) -> Result<Cgroups> {
        let state = self.state.lock();
        // Also after its end: containerd 2.3 asks then whether the kernel killed it for memory.
        Ok(state.container(id)?.cgroups.clone())
    }
}

/// containerd's `runc.v1.ProcessDetails`, which clients look for in the list of processes: one field, the exec id.
/// Source: containerd `api/types/runc/options/oci.proto`.
fn process_details(exec_id: &str) -> Any {
    const EXEC_ID: u32 = 1;
    let mut value = Vec::new();
    let mut output = CodedOutputStream::vec(&mut value);
    // Writing to memory cannot fail.
    let written = output.write_string(EXEC_ID, exec_id).and_then(|()| output.flush());
    drop(output);
    if let Err(error) = written {
        tracing::error!(%error, "process details cannot be encoded");
    }
    Any {
        type_url: "containerd.runc.v1.ProcessDetails".to_owned(),
        value,
        ..Default::default()
    }
}

fn unimplemented<T>(call: &str) -> ttrpc::Result<T> {
    Err(Fault::unimplemented(format!("{call} is not supported by io.containerd.tandem.v1 yet")).into())
}

#[async_trait]
impl Task for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: api::CreateTaskRequest,
    ) -> ttrpc::Result<api::CreateTaskResponse> {
        let service = self.clone();
        let pid = self
            .to_its_end(async move { service.create_container(request).await })
            .await?;
        Ok(api::CreateTaskResponse {
            pid,
            ..Default::default()
        })
    }

    async fn start(&self, _: &TtrpcContext, request: api::StartRequest) -> ttrpc::Result<api::StartResponse> {
        let service = self.clone();
        let pid = self
            .to_its_end(async move {
                match request.exec_id.as_str() {
                    "" => service.start_container(&request.id).await,
                    exec_id => service.start_exec(&request.id, exec_id).await,
                }
            })
            .await?;
        Ok(api::StartResponse {
            pid,
            ..Default::default()
        })
    }

    async fn state(&self, _: &TtrpcContext, request: api::StateRequest) -> ttrpc::Result<api::StateResponse> {
        Ok(self.state_of(&request.id, &request.exec_id)?)
    }

    async fn wait(&self, _: &TtrpcContext, request: api::WaitRequest) -> ttrpc::Result<api::WaitResponse> {
        let exit = self.wait_process(&request.id, &request.exec_id).await?;
        Ok(api::WaitResponse {
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..Default::default()
        })
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> ttrpc::Result<api::Empty> {
        let service = self.clone();
        self.to_its_end(async move {
            match request.exec_id.as_str() {
                "" => service.kill_container(&request.id, request.signal, request.all).await,
                exec_id => service.kill_exec(&request.id, exec_id, request.signal).await,
            }
        })
        .await?;
        Ok(api::Empty::new())
    }

    async fn delete(&self, _: &TtrpcContext, request: api::DeleteRequest) -> ttrpc::Result<api::DeleteResponse> {
        let service = self.clone();
        let (pid, exit) = self
            .to_its_end(async move {
                match request.exec_id.as_str() {
                    "" => service
                        .delete_container(&request.id)
                        .await
                        .map(|(pid, exit)| (pid, Some(exit))),
                    exec_id => service.delete_exec(&request.id, exec_id).await,
                }
            })
            .await?;
        Ok(api::DeleteResponse {
            pid: pid.unsigned_abs(),
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| timestamp(exit.at)).into(),
            ..Default::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: api::PidsRequest) -> ttrpc::Result<api::PidsResponse> {
        Ok(api::PidsResponse {
            processes: self.pids_of(&request.id)?,
            ..Default::default()
        })
    }

    async fn stats(&self, _: &TtrpcContext, request: api::StatsRequest) -> ttrpc::Result<api::StatsResponse> {
        let stats = self.cgroups_of(&request.id)?.stats()?;
        Ok(api::StatsResponse {
            stats: MessageField::some(stats),
            ..Default::default()
        })
    }

    async fn connect(&self, _: &TtrpcContext, request: api::ConnectRequest) -> ttrpc::Result<api::ConnectResponse> {
        let state = self.state.lock();
        let task = state
            .containers
            .get(&request.id)
            .and_then(|container| container.status().pid());
        Ok(api::ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: task.map_or(0, i32::unsigned_abs),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        })
    }

    async fn close_io(&self, _: &TtrpcContext, request: api::CloseIORequest) -> ttrpc::Result<api::Empty> {
        let state = self.state.lock();
        let process = state.container(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            process.relay.close_input();
        }
        Ok(api::Empty::new())
    }

    async fn shutdown(&self, _: &TtrpcContext, request: api::ShutdownRequest) -> ttrpc::Result<api::Empty> {
        if request.now {
            self.end().await;
        } else {
            self.end_if_empty().await;
        }
        Ok(api::Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, request: api::PauseRequest) -> ttrpc::Result<api::Empty> {
        let service = self.clone();
        self.to_its_end(async move { service.pause_container(&request.id).await })
            .await?;
        Ok(api::Empty::new())
    }

    async fn resume(&self, _: &TtrpcContext, request: api::ResumeRequest) -> ttrpc::Result<api::Empty> {
        let service = self.clone();
        self.to_its_end(async move { service.resume_container(&request.id).await })
            .await?;
        Ok(api::Empty::new())
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: api::CheckpointTaskRequest) -> ttrpc::Result<api::Empty> {
        unimplemented("Checkpoint")
    }

    async fn exec(&self, _: &TtrpcContext, request: api::ExecProcessRequest) -> ttrpc::Result<api::Empty> {
        self.add_exec(request)?;
        Ok(api::Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: api::ResizePtyRequest) -> ttrpc::Result<api::Empty> {
        let size = Size {
            width: u16::try_from(request.width).unwrap_or(u16::MAX),
            height: u16::try_from(request.height).unwrap_or(u16::MAX),
        };
        let state = self.state.lock();
        let process = state.container(&request.id)?.process(&request.exec_id)?;
        process.relay.resize(size)?;
        Ok(api::Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, request: api::UpdateTaskRequest) -> ttrpc::Result<api::Empty> {
        let service = self.clone();
        self.to_its_end(async move { service.update_container(&request.id, request.resources.as_ref()).await })
            .await?;
        Ok(api::Empty::new())
    }
}
