//! Pause, Resume and Update, and the watch over a container's memory.

use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::events::task::{TaskPaused, TaskResumed};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::topics;
use oci_spec::runtime::LinuxResources;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use super::container::Status;
use super::lifecycle::not_in;
use super::state::State;
use super::{Service, blocking};
use crate::cgroup::control::Control;
use crate::cgroup::oom::Alarm;
use crate::fault::{Fault, Result};

/// Topic of the event; the protocol crate's list lacks it.
const TASK_RESUMED: &str = "/tasks/resumed";
/// Type of an update. Source: containerd `api/services/tasks/v1`: `LinuxResources` of the OCI spec, as JSON.
const RESOURCES: &str = "opencontainers/runtime-spec/1/LinuxResources";
/// The kernel raises the alarm before it kills: how often, and how long, its count is looked at again.
const LOOKS: u32 = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(25);

impl Service {
    /// Stops a running container's processes where they are.
    pub(super) async fn pause_container(&self, id: &str) -> Result<()> {
        let _turn = self.turn_of(id)?.lock_owned().await;
        let control = self.control_of(id, false)?;
        blocking::run(move || control.freeze()).await??;
        self.set_paused(id, true)?;
        let event = TaskPaused {
            container_id: id.to_owned(),
            ..Default::default()
        };
        self.state.events().publish(topics::TASK_PAUSED_EVENT_TOPIC, &event);
        Ok(())
    }

    /// Lets a paused container go on.
    pub(super) async fn resume_container(&self, id: &str) -> Result<()> {
        let _turn = self.turn_of(id)?.lock_owned().await;
        let control = self.control_of(id, true)?;
        blocking::run(move || control.thaw()).await??;
        self.set_paused(id, false)?;
        let event = TaskResumed {
            container_id: id.to_owned(),
            ..Default::default()
        };
        self.state.events().publish(TASK_RESUMED, &event);
        Ok(())
    }

    /// Sets new limits for a container that has not ended.
    pub(super) async fn update_container(&self, id: &str, resources: Option<&Any>) -> Result<()> {
        let resources = parse_update(resources)?;
        let memory = resources.memory().as_ref().and_then(|memory| memory.limit());
        let _turn = self.turn_of(id)?.lock_owned().await;
        let control = {
            let state = self.state.lock();
            let container = state.container(id)?;
            match container.status() {
                Status::Created { .. } | Status::Running { .. } => container.control(id),
                other => return Err(not_in(id, "running", other)),
            }
        };
        blocking::run(move || control.update(resources)).await??;
        if let (Some(limit), Some(cell)) = (memory, &self.state.lock().container(id)?.memory) {
            let limit = u64::try_from(limit).ok().filter(|limit| *limit != 0);
            cell.set(limit).map_err(|error| {
                Fault::internal(format!("cannot tell the guest of container {id} its limit: {error}"))
            })?;
        }
        Ok(())
    }

    /// What the calls that change a container take, one after the other.
    pub(super) fn turn_of(&self, id: &str) -> Result<Arc<Mutex<()>>> {
        Ok(Arc::clone(&self.state.lock().container(id)?.turn))
    }

    fn control_of(&self, id: &str, paused: bool) -> Result<Control> {
        let state = self.state.lock();
        let container = state.container(id)?;
        match container.status() {
            Status::Running { .. } if container.killed => {
                Err(Fault::precondition(format!("container {id} has been killed")))
            }
            Status::Running { .. } if container.paused == paused => Ok(container.control(id)),
            Status::Running { .. } if paused => Err(Fault::precondition(format!("container {id} is not paused"))),
            Status::Running { .. } => Err(Fault::precondition(format!("container {id} is paused already"))),
            other => Err(not_in(id, "running", other)),
        }
    }

    pub(super) fn set_paused(&self, id: &str, paused: bool) -> Result<()> {
        let mut state = self.state.lock();
        state.container_mut(id)?.paused = paused;
        Ok(())
    }

    /// Watches a new container's memory until it is deleted.
    pub(super) fn watch_memory(&self, id: &str) {
        let mut state = self.state.lock();
        let Ok(container) = state.container_mut(id) else { return };
        let alarm = match Alarm::set(&container.cgroups) {
            Ok(Some(alarm)) => alarm,
            Ok(None) => return,
            // Not worth the container: its end by the kernel is still noticed when it comes.
            Err(error) => return tracing::warn!(id, %error, "cannot watch the container's memory"),
        };
        let watch = watch(Arc::clone(&self.state), id.to_owned(), alarm);
        container.memory_watch = Some(tokio::spawn(watch).abort_handle());
    }
}

async fn watch(state: Arc<State>, id: String, alarm: Alarm) {
    // SAFETY: the descriptor is open, and owned by what is registered for as long as it is.
    let Ok(alarm) = (unsafe { AsyncFd::register(alarm) }) else {
        return;
    };
    while alarm.async_io(Interest::READABLE, Alarm::quiet).await.is_ok() {
        for _ in 0..LOOKS {
            if !state.lock().containers.contains_key(&id) {
                return;
            }
            if state.notice_oom(&id) {
                break;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

fn parse_update(resources: Option<&Any>) -> Result<LinuxResources> {
    let any = resources.ok_or_else(|| Fault::invalid("the update has no resources"))?;
    if !any.type_url.ends_with(RESOURCES) {
        return Err(Fault::invalid(format!(
            "an update of type \"{}\" is not known: send {RESOURCES} as JSON",
            any.type_url.escape_debug()
        )));
    }
    serde_json::from_slice(&any.value)
        .map_err(|error| Fault::invalid(format!("the update's resources are not valid: {error}")))
}

impl Drop for super::container::Container {
    fn drop(&mut self) {
        if let Some(watch) = &self.memory_watch {
            watch.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;

    #[test]
    fn an_update_is_json_of_the_specs_type_and_nothing_else() {
        let any = |type_url: &str, value: &str| Any {
            type_url: type_url.into(),
            value: value.into(),
            ..Default::default()
        };
        let url = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
        let update = parse_update(Some(&any(url, r#"{"memory":{"limit":5}}"#))).unwrap();
        assert_eq!(memory::limit_of(&update), Some(5));
        for wrong in [any(url, "["), any("containerd.runc.v1.Options", "{}")] {
            assert!(parse_update(Some(&wrong)).is_err());
        }
        assert!(parse_update(None).is_err());
    }
}
