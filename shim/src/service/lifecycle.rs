//! Start, Wait, Kill and Delete.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use containerd_shim_protos::events::task::{TaskDelete, TaskStart};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::topics;
use nix::sys::signal::Signal;
use tokio::sync::watch;

use super::container::{Exit, Status};
use super::state::{Deleting, no_such};
use super::{Service, blocking};
use crate::bundle::ADDRESS_FILE;
use crate::cleanup::Remains;
use crate::events::timestamp;
use crate::fault::{Fault, Kind, Result};
use crate::zygote::wire::Request;

impl Service {
    /// Lets a created container run.
    pub(super) async fn start_container(&self, id: &str) -> Result<u32> {
        let (pid, bundle) = {
            let _turn = self.turn_of(id)?.lock_owned().await;
            let mut state = self.state.lock();
            let container = state.container_mut(id)?;
            let Status::Created { pid } = container.status() else {
                return Err(not_in(id, "created", container.status()));
            };
            let released = release(container.start.take());
            released.map_err(|error| {
                Fault::internal(format!(
                    "container {id} cannot be started: {error}; its process may have been killed"
                ))
            })?;
            // Still under the lock: the process may have ended by now, but its exit comes after this in the events.
            container.set_status(Status::Running { pid });
            let hooks = container.bundle.has_poststart_hooks();
            let bundle = hooks.then(|| container.bundle.path().to_owned());
            self.state.events().publish(
                topics::TASK_START_EVENT_TOPIC,
                &TaskStart {
                    container_id: id.to_owned(),
                    pid: pid.unsigned_abs(),
                    ..Default::default()
                },
            );
            (pid, bundle)
        };
        let Some(bundle) = bundle else {
            return Ok(pid.unsigned_abs());
        };
        let id_of = id.to_owned();
        let request = |op| Request::PostStart {
            op,
            id: id_of,
            bundle,
            pid,
        };
        if let Err(fault) = self.zygote.ask(None, request, &[]).await {
            // The specification: a poststart hook's failure stops the container.
            let _ = self.kill_container(id, Signal::SIGKILL as u32, false).await;
            return Err(fault);
        }
        Ok(pid.unsigned_abs())
    }

    /// Waits for the end of the container's first process.
    pub(super) async fn wait_container(&self, id: &str) -> Result<Exit> {
        self.wait_process(id, "").await
    }

    /// Waits for the end of a process of the container; its first one has no name.
    pub(super) async fn wait_process(&self, id: &str, exec_id: &str) -> Result<Exit> {
        let mut status = self.state.lock().container(id)?.process(exec_id)?.subscribe();
        // The sender goes away without an exit only when a Create fails, or an exec is deleted that never ran.
        let gone = || match exec_id {
            "" => no_such(id),
            name => Fault::not_found(format!("process {} was deleted before it ran", name.escape_debug())),
        };
        let last = status
            .wait_for(|status| status.exit().is_some())
            .await
            .map_err(|_| gone())?;
        last.exit().ok_or_else(gone)
    }

    /// Sends a signal to the first process, or to every process of the container.
    pub(super) async fn kill_container(&self, id: &str, signal: u32, all: bool) -> Result<()> {
        let signal = signal_number(signal)?;
        let _turn = self.turn_of(id)?.lock_owned().await;
        let ends = signal == Signal::SIGKILL as i32;
        let (pid, cgroups, paused) = {
            let mut state = self.state.lock();
            let container = state.container_mut(id)?;
            let pid = match (container.living_pid(), container.status()) {
                (Some(pid), _) => pid,
                (None, Status::Creating) => return Err(not_in(id, "created", Status::Creating)),
                (None, _) => return Err(Fault::not_found(format!("process of container {id} already finished"))),
            };
            container.killed |= ends;
            (pid, container.cgroups.clone(), container.paused)
        };
        if ends && (paused || all) {
            // A frozen process ends once it is thawed, and what it would do between the thaw and a later kill it must not.
            blocking::run_in_any_case(move || cgroups.kill()).await?;
            self.set_paused(id, false)?;
        } else if all {
            blocking::run_in_any_case(move || cgroups.signal(signal)).await?;
        }
        let killed = self.zygote.ask(None, |op| Request::Kill { op, pid, signal }, &[]).await;
        match killed {
            // It may have ended already, by the same signal.
            Err(fault) if (all || (ends && paused)) && fault.kind == Kind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes a container that has ended, or that never ran.
    pub(super) async fn delete_container(&self, id: &str) -> Result<(i32, Exit)> {
        let result = self.delete_once(id).await;
        // containerd closes the connection when a Delete finds nothing: not before the other one has been answered.
        let other = self.state.lock().deleting.get(id).cloned();
        if let (Err(_), Some(mut other)) = (&result, other) {
            let _ = other.done.changed().await;
        }
        result
    }

    async fn delete_once(&self, id: &str) -> Result<(i32, Exit)> {
        // A client gave up on its Create, and containerd takes away what it made: once there is something to take.
        let mut status = {
            let mut state = self.state.lock();
            let container = state.container_mut(id)?;
            if let Some(questions) = container.questions.take() {
                questions.abort();
            }
            container.init.subscribe()
        };
        let created = status.wait_for(|status| *status != Status::Creating).await;
        let status = *created.map_err(|_| no_such(id))?;
        if let Status::Created { .. } = status {
            // Its process waits for a Start that will not come. It may just have ended: no matter.
            let _ = self.kill_container(id, Signal::SIGKILL as u32, false).await;
            self.wait_container(id).await?;
        }
        let _turn = self.turn_of(id)?.lock_owned().await;
        // Whoever takes the container out deletes it; a second Delete at the same time finds nothing.
        let (_done, done) = watch::channel(());
        let mut container = {
            let mut state = self.state.lock();
            let status = state.container(id)?.status();
            if status.exit().is_none() {
                return Err(not_in(id, "stopped", status));
            }
            let container = state.containers.remove(id).ok_or_else(|| no_such(id))?;
            let last = container.describe(id, "")?;
            state.deleting.insert(id.to_owned(), Deleting { done, last });
            container
        };
        // All at once: each may have to wait for a client that does not read.
        let execs = container.execs.drain().map(|(_, exec)| exec.process.relay);
        let ends: Vec<_> = execs.map(|relay| tokio::spawn(relay.finish())).collect();
        let relay = std::mem::take(&mut container.init.relay);
        let Status::Stopped { pid, exit } = container.status() else {
            return Err(no_such(id));
        };
        let name = id.to_owned();
        let removed = blocking::run_in_any_case(move || {
            let rootfs = container.bundle.rootfs();
            let remains = Remains {
                id: &name,
                rootfs: &rootfs,
                bundle: Some(&container.bundle),
                cgroups: &container.cgroups,
                systemd_cgroup: container.systemd_cgroup,
                shim_is_dead: false,
                hooks_are_due: true,
            };
            let result = remains.remove();
            if result.is_ok() {
                // Tells the `delete` action, which containerd runs all the same, that nothing was cut off.
                let _ = std::fs::remove_file(container.bundle.path().join(ADDRESS_FILE));
            }
            (container, result)
        })
        .await;
        if let Ok((_, Ok(()))) = &removed {
            relay.finish().await;
            for end in ends {
                let _ = end.await;
            }
        }
        let mut state = self.state.lock();
        state.deleting.remove(id);
        let (container, result) = removed?;
        if let Err(fault) = result {
            // Still there, so that a second Delete can finish it.
            state.containers.insert(id.to_owned(), container);
            return Err(fault);
        }
        drop(state);
        self.published_delete(id, pid, exit);
        Ok((pid, exit))
    }

    fn published_delete(&self, id: &str, pid: i32, exit: Exit) {
        self.state.events().publish(
            topics::TASK_DELETE_EVENT_TOPIC,
            &TaskDelete {
                container_id: id.to_owned(),
                pid: pid.unsigned_abs(),
                exit_status: exit.status,
                exited_at: MessageField::some(timestamp(exit.at)),
                ..Default::default()
            },
        );
    }
}

/// Tells the waiting process to go on.
fn release(start: Option<OwnedFd>) -> std::io::Result<()> {
    let start = start.ok_or_else(|| std::io::Error::other("what starts it was lost"))?;
    File::from(start).write_all(b"s")
}

/// The signal's number, if it is one. Source: signal(7).
pub(super) fn signal_number(signal: u32) -> Result<i32> {
    i32::try_from(signal)
        .ok()
        .filter(|signal| (0..=64).contains(signal))
        .ok_or_else(|| Fault::invalid(format!("{signal} is not a signal")))
}

pub(super) fn not_in(id: &str, needed: &str, status: Status) -> Fault {
    let is = match status {
        Status::Creating => "being created",
        Status::Created { .. } => "created but not started",
        Status::Running { .. } => "running",
        Status::Stopped { .. } => "stopped",
    };
    Fault::precondition(format!("container {id} is {is}, not {needed}"))
}
