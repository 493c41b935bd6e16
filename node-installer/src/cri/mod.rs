//! containerd's CRI service, as the kubelet uses it: whether it is ready, what it runs, and whether it runs ours.

mod image;
mod probe;

use std::{collections::BTreeSet, path::Path, time::Duration};

use k8s_cri::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, ContainerStatusRequest, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox, PodSandboxState, StatusRequest, StatusResponse,
    image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::{
    error::{Error, Result},
    host::Host,
};

pub use probe::{Probe, logs};

/// Longest wait for one call that does no work.
const CALL: Duration = Duration::from_secs(20);
/// Time between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(100);
/// A node with many pods answers with more than gRPC's default of 4 MiB; containerd itself sends at most this.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Exit codes that containerd gives a container whose shim it lost, or that was killed.
const LOST: [i32; 2] = [255, 137];

/// A span of time, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Its beginning.
    pub since: i64,
    /// Its end, where there is one.
    pub until: Option<i64>,
}

impl Ended {
    fn contains(self, time: i64) -> bool {
        time >= self.since && self.until.is_none_or(|until| time <= until)
    }
}

/// A connection to containerd. It outlives restarts of the daemon.
#[derive(Clone, Debug)]
pub struct Cri {
    channel: Channel,
}

impl Cri {
    /// A connection to the socket `path` of the host, made when it is used.
    ///
    /// # Errors
    /// A path that is no address.
    pub fn new(host: &Host, path: &Path) -> Result<Self> {
        let here = host.path(path)?;
        let endpoint = Endpoint::from_shared(format!("unix://{}", here.display()));
        let endpoint = endpoint.map_err(|error| Error::Usage(format!("the socket {}: {error}", here.display())))?;
        Ok(Self {
            channel: endpoint.connect_lazy(),
        })
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Waits until CRI says that its runtime is ready.
    ///
    /// # Errors
    /// [`Error::Verify`] with the last answer.
    pub async fn wait_ready(&self, limit: Duration) -> Result<StatusResponse> {
        let since = Instant::now();
        loop {
            let why = match self.status().await {
                Ok(status) => match not_ready(&status) {
                    None => return Ok(status),
                    Some(why) => why,
                },
                Err(error) => error.to_string(),
            };
            if since.elapsed() >= limit {
                let why = format!("after {} s: {why}", limit.as_secs());
                return Err(Error::Verify {
                    step: "RuntimeReady",
                    why,
                });
            }
            sleep(POLL).await;
        }
    }

    async fn status(&self) -> Result<StatusResponse> {
        call("Status", CALL, self.runtime().status(StatusRequest { verbose: true })).await
    }

    /// Whether CRI has this handler, as far as its verbose status tells.
    ///
    /// # Errors
    /// A containerd that does not answer.
    pub async fn has_handler(&self, handler: &str) -> Result<bool> {
        Ok(lists(&self.status().await?, handler))
    }

    /// Waits until CRI has this handler, or has it no more.
    ///
    /// # Errors
    /// [`Error::Verify`] where that does not happen.
    pub async fn wait_handler(&self, handler: &str, present: bool, limit: Duration) -> Result<()> {
        let since = Instant::now();
        loop {
            if self.has_handler(handler).await.is_ok_and(|found| found == present) {
                return Ok(());
            }
            if since.elapsed() >= limit {
                let not = if present { "does not list" } else { "still lists" };
                return Err(Error::Verify {
                    step: "handler",
                    why: format!("CRI {not} the handler {handler:?} after {} s", limit.as_secs()),
                });
            }
            sleep(POLL).await;
        }
    }

    /// Ids of the containers that run.
    ///
    /// # Errors
    /// A containerd that does not answer.
    pub async fn running(&self) -> Result<Vec<String>> {
        self.containers(ContainerState::ContainerRunning).await
    }

    /// As [`Cri::running`]; none where containerd does not serve CRI: what is down has nothing to lose.
    ///
    /// # Errors
    /// A containerd that serves CRI and does not answer this.
    pub async fn running_if_up(&self) -> Result<Vec<String>> {
        match self.running().await {
            Err(Error::Call { status, .. }) if matches!(status.code(), Code::Unavailable | Code::Unimplemented) => {
                Ok(Vec::new())
            }
            other => other,
        }
    }

    async fn containers(&self, state: ContainerState) -> Result<Vec<String>> {
        let filter = ContainerFilter {
            state: Some(ContainerStateValue { state: state.into() }),
            ..Default::default()
        };
        let request = ListContainersRequest { filter: Some(filter) };
        let answer = call("ListContainers", CALL, self.runtime().list_containers(request)).await?;
        Ok(answer.containers.into_iter().map(|container| container.id).collect())
    }

    /// Waits until no container is between its creation and its start, at most `limit`: a container that the kubelet
    /// creates while the daemon restarts can stay in between for ever.
    pub async fn wait_calm(&self, limit: Duration) {
        let since = Instant::now();
        while since.elapsed() < limit {
            match self.containers(ContainerState::ContainerCreated).await {
                Ok(created) if !created.is_empty() => sleep(POLL).await,
                _ => return,
            }
        }
    }

    /// Those of the containers that ran `before` which were lost: unknown to CRI now, or ended within that time as one
    /// ends whose shim is gone. A container that ended in another way did so by itself.
    ///
    /// # Errors
    /// A containerd that does not answer.
    pub async fn lost(&self, before: &[String], ended: Ended) -> Result<Vec<String>> {
        let running: BTreeSet<String> = self.running().await?.into_iter().collect();
        let mut lost = Vec::new();
        for id in before.iter().filter(|id| !running.contains(*id)) {
            let request = ContainerStatusRequest {
                container_id: id.clone(),
                verbose: false,
            };
            match call("ContainerStatus", CALL, self.runtime().container_status(request)).await {
                Ok(answer) => {
                    let status = answer.status.unwrap_or_default();
                    let unknown = status.state() == ContainerState::ContainerUnknown;
                    if unknown || (LOST.contains(&status.exit_code) && ended.contains(status.finished_at)) {
                        lost.push(id.clone());
                    }
                }
                // Its pod was deleted meanwhile.
                Err(Error::Call { status, .. }) if status.code() == Code::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// Sandboxes of this handler that are not stopped.
    ///
    /// # Errors
    /// A containerd that does not answer.
    pub async fn pods_of(&self, handler: &str) -> Result<Vec<PodSandbox>> {
        let request = ListPodSandboxRequest { filter: None };
        let answer = call("ListPodSandbox", CALL, self.runtime().list_pod_sandbox(request)).await?;
        let ours = |pod: &PodSandbox| pod.runtime_handler == handler && pod.state() == PodSandboxState::SandboxReady;
        Ok(answer.items.into_iter().filter(ours).collect())
    }
}

/// Waits for a call, at most `limit`.
async fn call<T>(
    name: &'static str,
    limit: Duration,
    future: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    let answer = timeout(limit, future).await.map_err(|_| Error::Deadline {
        what: format!("the answer to {name}"),
        after: limit,
    })?;
    answer.map(tonic::Response::into_inner).map_err(Error::call(name))
}

/// Why the runtime is not ready.
fn not_ready(status: &StatusResponse) -> Option<String> {
    let conditions = status
        .status
        .as_ref()
        .map(|status| &status.conditions[..])
        .unwrap_or_default();
    match conditions.iter().find(|condition| condition.r#type == "RuntimeReady") {
        Some(condition) if condition.status => None,
        Some(condition) => Some(format!(
            "RuntimeReady is false: {} {}",
            condition.reason, condition.message
        )),
        None => Some("CRI reports no RuntimeReady".into()),
    }
}

/// Whether a verbose status lists a handler: by name since containerd 2.0, in the configuration it shows before that.
fn lists(status: &StatusResponse, handler: &str) -> bool {
    if status.runtime_handlers.iter().any(|known| known.name == handler) {
        return true;
    }
    let config = status
        .info
        .get("config")
        .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    config.is_some_and(|config| config["containerd"]["runtimes"].get(handler).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_cri::v1::{RuntimeCondition, RuntimeHandler, RuntimeStatus};

    fn status(ready: bool) -> StatusResponse {
        let condition = RuntimeCondition {
            r#type: "RuntimeReady".into(),
            status: ready,
            reason: "Broken".into(),
            ..Default::default()
        };
        StatusResponse {
            status: Some(RuntimeStatus {
                conditions: vec![condition],
            }),
            ..Default::default()
        }
    }

    #[test]
    fn a_runtime_that_is_not_ready_says_why() {
        assert_eq!(not_ready(&status(true)), None);
        assert!(not_ready(&status(false)).unwrap().contains("Broken"));
        assert!(not_ready(&StatusResponse::default()).is_some());
    }

    #[test]
    fn only_ends_within_the_time_of_a_restart_count() {
        let restart = |until| Ended { since: 10, until };
        assert!(!restart(None).contains(9) && restart(None).contains(10) && restart(None).contains(i64::MAX));
        assert!(restart(Some(20)).contains(20) && !restart(Some(20)).contains(21));
    }

    #[test]
    fn handlers_are_found_in_the_answers_of_both_generations() {
        let mut new = status(true);
        new.runtime_handlers.push(RuntimeHandler {
            name: "tandem".into(),
            ..Default::default()
        });
        assert!(lists(&new, "tandem") && !lists(&new, "kata"));
        let mut old = status(true);
        let config = r#"{"containerd":{"runtimes":{"runc":{},"tandem":{"runtimeType":"x"}}}}"#;
        old.info.insert("config".into(), config.into());
        assert!(lists(&old, "tandem") && !lists(&old, "kata"));
    }
}
