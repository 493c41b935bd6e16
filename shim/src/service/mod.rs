//! The Task service: containerd's calls, each a few lines over the shim's state and its zygote.
//! Source: containerd `api/runtime/task/v3/shim.proto`; v2 has the same messages under another name.

mod blocking;
mod container;
mod create;
mod ending;
mod lifecycle;
mod state;
mod zygote_link;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim_async::Task;
use containerd_shim_protos::ttrpc::{self, asynchronous::TtrpcContext};
use containerd_shim_protos::types::task::ProcessInfo;
use tandem_image::Resolver;
use tokio::sync::Notify;

use crate::cgroup::Cgroups;
use crate::events::{Events, timestamp};
use crate::fault::{Fault, Result};
use crate::paths::Paths;
use container::Status;
use state::State;
use zygote_link::ZygoteLink;

/// Where and for whom the service works.
pub struct Settings {
    /// The node's directories.
    pub paths: Paths,
    /// containerd namespace.
    pub namespace: String,
    /// containerd's gRPC socket, for images.
    pub containerd: String,
}

/// The service; one a shim, for all the containers of its group. A copy is the same service.
#[derive(Clone)]
pub struct Service {
    state: Arc<State>,
    zygote: ZygoteLink,
    images: Arc<Resolver>,
    paths: Arc<Paths>,
    namespace: Arc<str>,
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
            paths: Arc::new(settings.paths),
            namespace: settings.namespace.into(),
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

    fn state_of(&self, id: &str) -> Result<api::StateResponse> {
        let state = self.state.lock();
        let container = state.container(id)?;
        let status = container.status();
        let mut response = api::StateResponse {
            id: id.to_owned(),
            bundle: container.bundle.path().display().to_string(),
            pid: status.pid().map_or(0, i32::unsigned_abs),
            status: status.as_task().into(),
            stdin: container.names.stdin.clone(),
            stdout: container.names.stdout.clone(),
            stderr: container.names.stderr.clone(),
            ..Default::default()
        };
        if let Some(exit) = status.exit() {
            response.exit_status = exit.status;
            response.exited_at = MessageField::some(timestamp(exit.at));
        }
        Ok(response)
    }

    /// The container's processes. Of one that has ended it is the pid it had: containerd 2.3 asks for them when it
    /// comes back from a restart, and takes a shim without any for a leaked one, whose exit it then never reports.
    fn pids_of(&self, id: &str) -> Result<Vec<i32>> {
        let (status, cgroups) = {
            let state = self.state.lock();
            let container = state.container(id)?;
            (container.status(), container.cgroups.clone())
        };
        Ok(match status {
            Status::Creating => Vec::new(),
            Status::Created { .. } | Status::Running { .. } => cgroups.pids(),
            Status::Stopped { pid, .. } => vec![pid],
        })
    }

    fn cgroups_of(&self, id: &str) -> Result<Cgroups> {
        let state = self.state.lock();
        let container = state.container(id)?;
        if container.status().exit().is_some() {
            return Err(Fault::not_found(format!("container {id} has ended")));
        }
        Ok(container.cgroups.clone())
    }
}

/// Only a container's first process can be named until exec is there.
fn first_process_only(exec_id: &str) -> Result<()> {
    if exec_id.is_empty() {
        return Ok(());
    }
    Err(Fault::not_found(format!(
        "exec process {} does not exist",
        exec_id.escape_debug()
    )))
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
        first_process_only(&request.exec_id)?;
        let service = self.clone();
        let pid = self
            .to_its_end(async move { service.start_container(&request.id).await })
            .await?;
        Ok(api::StartResponse {
            pid,
            ..Default::default()
        })
    }

    async fn state(&self, _: &TtrpcContext, request: api::StateRequest) -> ttrpc::Result<api::StateResponse> {
        first_process_only(&request.exec_id)?;
        Ok(self.state_of(&request.id)?)
    }

    async fn wait(&self, _: &TtrpcContext, request: api::WaitRequest) -> ttrpc::Result<api::WaitResponse> {
        first_process_only(&request.exec_id)?;
        let exit = self.wait_container(&request.id).await?;
        Ok(api::WaitResponse {
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..Default::default()
        })
    }

    async fn kill(&self, _: &TtrpcContext, request: api::KillRequest) -> ttrpc::Result<api::Empty> {
        first_process_only(&request.exec_id)?;
        self.kill_container(&request.id, request.signal, request.all).await?;
        Ok(api::Empty::new())
    }

    async fn delete(&self, _: &TtrpcContext, request: api::DeleteRequest) -> ttrpc::Result<api::DeleteResponse> {
        first_process_only(&request.exec_id)?;
        let service = self.clone();
        let (pid, exit) = self
            .to_its_end(async move { service.delete_container(&request.id).await })
            .await?;
        Ok(api::DeleteResponse {
            pid: pid.unsigned_abs(),
            exit_status: exit.status,
            exited_at: MessageField::some(timestamp(exit.at)),
            ..Default::default()
        })
    }

    async fn pids(&self, _: &TtrpcContext, request: api::PidsRequest) -> ttrpc::Result<api::PidsResponse> {
        let processes = self
            .pids_of(&request.id)?
            .into_iter()
            .map(|pid| ProcessInfo {
                pid: pid.unsigned_abs(),
                ..Default::default()
            })
            .collect();
        Ok(api::PidsResponse {
            processes,
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
        first_process_only(&request.exec_id)?;
        let state = self.state.lock();
        let container = state.container(&request.id)?;
        if request.stdin {
            container.held.close_input();
        }
        Ok(api::Empty::new())
    }

    async fn shutdown(&self, _: &TtrpcContext, request: api::ShutdownRequest) -> ttrpc::Result<api::Empty> {
        if request.now {
            self.exit.notify_one();
        } else {
            self.end_if_empty();
        }
        Ok(api::Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, _: api::PauseRequest) -> ttrpc::Result<api::Empty> {
        unimplemented("Pause")
    }

    async fn resume(&self, _: &TtrpcContext, _: api::ResumeRequest) -> ttrpc::Result<api::Empty> {
        unimplemented("Resume")
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: api::CheckpointTaskRequest) -> ttrpc::Result<api::Empty> {
        unimplemented("Checkpoint")
    }

    async fn exec(&self, _: &TtrpcContext, _: api::ExecProcessRequest) -> ttrpc::Result<api::Empty> {
        unimplemented("Exec")
    }

    async fn resize_pty(&self, _: &TtrpcContext, _: api::ResizePtyRequest) -> ttrpc::Result<api::Empty> {
        unimplemented("ResizePty")
    }

    async fn update(&self, _: &TtrpcContext, _: api::UpdateTaskRequest) -> ttrpc::Result<api::Empty> {
        unimplemented("Update")
    }
}
