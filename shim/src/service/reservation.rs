//! What a call has taken for as long as it works, given back whatever becomes of the call: an error, a panic, an end of
//! the service.

use std::sync::Arc;

use super::container::Container;
use super::process::ExecStart;
use super::state::{State, no_such};
use super::{Service, blocking};
use crate::bundle::ADDRESS_FILE;
use crate::cleanup::Remains;
use crate::fault::{Fault, Result};

/// A container's id, and what a Create has made under it so far.
pub(super) struct Reservation {
    service: Service,
    id: String,
    kept: bool,
}

impl Reservation {
    /// Takes the id, so that a second Create of it fails, whoever comes first.
    pub fn take(service: &Service, id: &str, container: Container) -> Result<Self> {
        let mut state = service.state.lock();
        if state.ends {
            return Err(Fault::unavailable(format!(
                "container {id} cannot be created: its shim is ending; try again, with another shim"
            )));
        }
        if state.containers.contains_key(id) || state.deleting.contains_key(id) {
            return Err(Fault::exists(format!("container {id} exists already in this shim")));
        }
        state.containers.insert(id.to_owned(), container);
        Ok(Self {
            service: service.clone(),
            id: id.to_owned(),
            kept: false,
        })
    }

    /// The container is there to stay.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// Removes what was made.
    pub async fn give_back(mut self) {
        self.kept = true;
        forget(self.service.clone(), self.id.clone()).await;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let (false, Ok(runtime)) = (self.kept, tokio::runtime::Handle::try_current()) {
            let call = self.service.begin_call();
            let forgotten = forget(self.service.clone(), self.id.clone());
            runtime.spawn(async move {
                forgotten.await;
                drop(call);
            });
        }
    }
}

/// Removes what a failed Create has made. The id is free once all of it is gone.
async fn forget(service: Service, id: String) {
    let (bundle, cgroups, systemd_cgroup) = {
        let state = service.state.lock();
        let Ok(container) = state.container(&id) else { return };
        let bundle = Arc::clone(&container.bundle);
        (bundle, container.cgroups.clone(), container.systemd_cgroup)
    };
    let name = id.clone();
    let removed = blocking::run_in_any_case(move || {
        let remains = Remains {
            id: &name,
            rootfs: &bundle.rootfs(),
            bundle: Some(&bundle),
            cgroups: &cgroups,
            systemd_cgroup,
            shim_is_dead: false,
            hooks_are_due: true,
        };
        remains.remove()?;
        // Tells the `delete` action, which containerd runs all the same, that nothing was cut off.
        let _ = std::fs::remove_file(bundle.path().join(ADDRESS_FILE));
        Ok(())
    });
    if let Err(fault) = removed.await.and_then(|removed| removed) {
        tracing::error!(id, %fault, "cannot clean up after a failed create");
    }
    service.state.lock().containers.remove(&id);
}

/// The right to start an exec, which one Start at a time has.
pub(super) struct ExecClaim {
    state: Arc<State>,
    id: String,
    exec_id: String,
    started: bool,
}

impl ExecClaim {
    /// Of an exec that is marked as being prepared.
    pub fn new(state: &Arc<State>, id: &str, exec_id: &str) -> Self {
        Self {
            state: Arc::clone(state),
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            started: false,
        }
    }

    /// It has a process; answers its pid.
    pub fn started(mut self) -> Result<u32> {
        self.started = true;
        let state = self.state.lock();
        let container = state.containers.get(&self.id).ok_or_else(|| no_such(&self.id))?;
        let pid = container.exec(&self.exec_id)?.process.status().pid();
        Ok(pid.map_or(0, i32::unsigned_abs))
    }
}

impl Drop for ExecClaim {
    /// After a failure it is registered still, and its container may end.
    fn drop(&mut self) {
        if self.started {
            return;
        }
        let mut state = self.state.lock();
        let Ok(container) = state.container_mut(&self.id) else {
            return;
        };
        if let Ok(exec) = container.exec_mut(&self.exec_id) {
            exec.start = ExecStart::NotAsked;
            let relay = std::mem::take(&mut exec.process.relay);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(relay.finish());
            }
        }
        self.state.settle(&self.id, container);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;
    use crate::events::Events;
    use crate::service::container::Status;
    use crate::service::process::Exec;
    use crate::service::state::Target;
    use crate::stdio::StreamNames;
    use crate::zygote::wire::Report;
    use std::path::Path;

    fn container() -> Container {
        let json = r#"{"ociVersion":"1.1.0","root":{"path":"rootfs"},"linux":{"namespaces":[]},
            "process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["a"]}}"#;
        let bundle = Bundle::parse(Path::new("/b"), json.as_bytes()).unwrap();
        let mut container = Container::new(bundle.into(), StreamNames::default(), false);
        let exec = Exec::new(StreamNames::default(), Vec::new());
        container.execs.insert("x".into(), exec);
        container
    }

    #[tokio::test]
    async fn an_exec_whose_start_panics_can_be_started_again_and_does_not_hold_up_its_containers_end() {
        let events = Events::forward_to("/nonexistent/socket".into(), "test".into());
        let state = Arc::new(State::new(events));
        state.lock().containers.insert("c".into(), container());
        let op = state.lock().begin(Some(Target::Container("c".into()))).0;
        state.take(Report::Created { op, pid: i32::MAX - 1 }, Vec::new());
        state.lock().container_mut("c").unwrap().exec_mut("x").unwrap().start = ExecStart::HandedOver;
        let held = Arc::clone(&state);
        let started = tokio::spawn(async move {
            let _claim = ExecClaim::new(&held, "c", "x");
            panic!("on purpose");
        });
        let exited = Report::Exited {
            pid: i32::MAX - 1,
            status: 3,
        };
        state.take(exited, Vec::new());
        assert!(matches!(
            state.lock().container("c").unwrap().status(),
            Status::Created { .. }
        ));
        started.await.unwrap_err();
        let state = state.lock();
        let container = state.container("c").unwrap();
        assert_eq!(container.exec("x").unwrap().start, ExecStart::NotAsked);
        assert_eq!(container.status().exit().map(|exit| exit.status), Some(3));
    }

    #[tokio::test]
    async fn an_id_whose_create_panics_is_free_again() {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        let settings = crate::service::Settings {
            config: crate::node_config::NodeConfig::default(),
            namespace: "test".into(),
            containerd: "/nonexistent/socket".into(),
            socket: "/nonexistent/own".into(),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (zygote, _other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let events = Events::forward_to("/nonexistent/socket".into(), "test".into());
        let service = Service::new(settings, zygote, events, Arc::default()).unwrap();
        // A Delete waits until there is something to delete, or nothing any more.
        let id = format!("tandem-test-{}", std::process::id());
        let reservation = Reservation::take(&service, &id, container()).unwrap();
        assert!(Reservation::take(&service, &id, container()).is_err());
        let deleted = service.delete_container(&id);
        let created = tokio::spawn(async move {
            let _reservation = reservation;
            panic!("on purpose");
        });
        assert_eq!(deleted.await.unwrap_err().kind, crate::fault::Kind::NotFound);
        assert!(created.await.unwrap_err().is_panic());
        Reservation::take(&service, &id, container()).unwrap().give_back().await;
        service.end_if_empty().await;
        let refused = Reservation::take(&service, &id, container()).err().unwrap();
        assert_eq!(refused.kind, crate::fault::Kind::Unavailable);
    }
}
