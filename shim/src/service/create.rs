//! The Create call: from a bundle to a confined process that waits for Start.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::types::mount::Mount;

use super::container::{Container, Status};
use super::reservation::Reservation;
use super::state::Target;
use super::{Service, blocking, modules};
use crate::bundle::Bundle;
use crate::cli::check_name;
use crate::fault::{Fault, Result};
use crate::options::Options;
use crate::rootfs;
use crate::stdio::{self, Relay, StreamNames, StreamOwner, Streams};
use crate::zygote::wire::{Create, Op, Request};

impl Service {
    /// Creates the container of `request`; whatever fails, nothing is left of it.
    pub(super) async fn create_container(&self, mut request: CreateTaskRequest) -> Result<u32> {
        let id = request.id.clone();
        check_name("container id", &id)?;
        if !request.checkpoint.is_empty() {
            return Err(Fault::unimplemented("restoring from a checkpoint is not supported"));
        }
        let options = Options::decode(request.options.as_ref())?;
        let bundle = Bundle::load(Path::new(&request.bundle))?;
        let names = StreamNames {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            // The process says what it has; a client says it once more.
            terminal: bundle.has_terminal(),
        };
        if request.terminal && !names.terminal {
            return Err(Fault::invalid(format!(
                "a terminal is asked for, but the process in {}/config.json has none: set process.terminal",
                request.bundle
            )));
        }
        let systemd_cgroup = options.systemd_cgroup || bundle.has_systemd_cgroup();
        let bundle = Arc::new(bundle);
        let container = Container::new(Arc::clone(&bundle), names.clone(), systemd_cgroup);
        let reservation = Reservation::take(self, &id, container)?;
        let owner = StreamOwner {
            namespace: Arc::clone(&self.namespace),
            id: id.clone(),
            uid: if bundle.has_user_namespace() { 0 } else { bundle.uid() },
            ends_with_process: false,
        };
        let mounts = std::mem::take(&mut request.rootfs);
        let created = async {
            let prepared = blocking::run(move || prepare(&names, &owner, &mounts, &bundle)).await??;
            let (streams, mut relay) = prepared;
            relay.ready().await?;
            self.state.lock().container_mut(&id)?.init.relay = relay;
            let create = Create {
                id: id.clone(),
                bundle: request.bundle.clone().into(),
                systemd_cgroup,
                http_limits: options.http.clone().unwrap_or_else(|| self.config.http.clone()),
            };
            let target = Target::Container(id.clone());
            let request = |op| Request::Create { op, create };
            self.make_process(target, request, None, streams.as_ref()).await
        }
        .await;
        match created {
            Ok(()) => {
                reservation.keep();
                self.watch_memory(&id);
                Ok(self.pid_of(&id))
            }
            Err(fault) => {
                reservation.give_back().await;
                Err(fault)
            }
        }
    }

    /// Has the zygote make a process, and answers what its worker asks about modules meanwhile.
    pub(super) async fn make_process(
        &self,
        target: Target,
        request: impl FnOnce(Op) -> Request,
        section: Option<&OwnedFd>,
        streams: Option<&Streams>,
    ) -> Result<()> {
        let (asked, asks) = modules::line()?;
        let memory = self.memory_cell(target.container())?;
        let mut fds: Vec<RawFd> = section.map(AsRawFd::as_raw_fd).into_iter().collect();
        fds.extend([asks.as_raw_fd(), memory.as_raw_fd()]);
        fds.extend(fds_of(streams));
        let answers = tokio::spawn(modules::answer(self.clone(), target.clone(), asked));
        // A Delete that comes meanwhile hangs up, so that nothing is compiled that nobody waits for.
        if let Target::Container(id) = &target {
            self.state.lock().container_mut(id)?.questions = Some(answers.abort_handle());
        }
        let made = self.zygote.ask(Some(target), request, &fds).await;
        drop(asks);
        answers.abort();
        made
    }

    /// What tells a guest its memory limit; the container keeps it.
    fn memory_cell(&self, id: &str) -> Result<OwnedFd> {
        let mut state = self.state.lock();
        let cell = state.container_mut(id)?.memory_cell();
        cell.and_then(|cell| cell.as_fd().try_clone_to_owned())
            .map_err(|error| Fault::exhausted(format!("cannot make the guest's memory limit: {error}")))
    }

    fn pid_of(&self, id: &str) -> u32 {
        let state = self.state.lock();
        let status = state.containers.get(id).map(Container::status);
        status.and_then(Status::pid).map_or(0, i32::unsigned_abs)
    }
}

/// All of a Create that touches files which the node does not answer for: logs, snapshots, volumes. On a thread that may
/// wait, and without a lock: a disk that hangs keeps this one call only.
fn prepare(
    names: &StreamNames,
    owner: &StreamOwner,
    mounts: &[Mount],
    bundle: &Bundle,
) -> Result<(Option<Streams>, Relay)> {
    let (streams, relay) = stdio::open(names, owner)?;
    let root = bundle.rootfs();
    if !mounts.is_empty() {
        rootfs::mount_all(mounts, &root)?;
    }
    Ok((streams, relay))
}

/// The streams' descriptors in the order in which the zygote expects them; none for a terminal.
fn fds_of(streams: Option<&Streams>) -> Vec<RawFd> {
    let Some(streams) = streams else { return Vec::new() };
    [&streams.stdin, &streams.stdout, &streams.stderr]
        .map(AsRawFd::as_raw_fd)
        .into()
}
