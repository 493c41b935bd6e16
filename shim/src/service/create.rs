//! The Create call: from a bundle to a confined process that waits for Start.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use containerd_shim_protos::api::CreateTaskRequest;

use super::container::{Container, Status};
use super::state::Target;
use super::{Service, blocking, modules};
use crate::bundle::{ADDRESS_FILE, Bundle};
use crate::cleanup::Remains;
use crate::cli::check_name;
use crate::fault::{Fault, Result};
use crate::options::Options;
use crate::rootfs;
use crate::stdio::{self, StreamNames, Streams, Whose};
use crate::zygote::wire::{Create, Op, Request};

impl Service {
    /// Creates the container of `request`; whatever fails, nothing is left of it.
    pub(super) async fn create_container(&self, request: CreateTaskRequest) -> Result<u32> {
        let id = request.id.clone();
        check_name("container id", &id)?;
        if !request.checkpoint.is_empty() {
            return Err(Fault::unimplemented("restoring from a checkpoint is not supported"));
        }
        let options = Options::decode(request.options.as_ref())?;
        let bundle = Bundle::load(Path::new(&request.bundle))?;
        let root = bundle.rootfs();
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
        let whose = Whose {
            namespace: &self.namespace,
            id: &id,
            uid: if bundle.has_user_namespace() { 0 } else { bundle.uid() },
            ends_with_process: false,
        };
        let (streams, held) = stdio::open(&names, whose).await?;
        let systemd_cgroup = options.systemd_cgroup || bundle.has_systemd_cgroup();
        self.reserve(&id, bundle, names, held, systemd_cgroup)?;

        let created = async {
            if !request.rootfs.is_empty() {
                rootfs::mount_all(&request.rootfs, &root)?;
            }
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
        drop(streams);

        match created {
            Ok(()) => {
                self.watch_memory(&id);
                Ok(self.pid_of(&id))
            }
            Err(fault) => {
                self.forget_failed(&id, &root).await;
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

    /// Takes the id, so that a second Create of it fails, whoever comes first.
    fn reserve(
        &self,
        id: &str,
        bundle: Bundle,
        names: StreamNames,
        held: stdio::Held,
        systemd_cgroup: bool,
    ) -> Result<()> {
        let mut state = self.state.lock();
        if state.containers.contains_key(id) {
            return Err(Fault::exists(format!("container {id} exists already in this shim")));
        }
        let container = Container::new(bundle, names, held, systemd_cgroup);
        state.containers.insert(id.to_owned(), container);
        Ok(())
    }

    fn pid_of(&self, id: &str) -> u32 {
        let state = self.state.lock();
        let status = state.containers.get(id).map(Container::status);
        status.and_then(Status::pid).map_or(0, i32::unsigned_abs)
    }

    /// Removes what a failed Create has made so far.
    async fn forget_failed(&self, id: &str, root: &Path) {
        let Some(container) = self.state.lock().containers.remove(id) else {
            return;
        };
        let (id, root) = (id.to_owned(), root.to_owned());
        let removal = blocking::run(move || {
            let remains = Remains {
                id: &id,
                rootfs: &root,
                bundle: Some(&container.bundle),
                cgroups: &container.cgroups,
                systemd_cgroup: container.systemd_cgroup,
                shim_is_dead: false,
                hooks_are_due: true,
            };
            match remains.remove() {
                // Tells the `delete` action, which containerd runs all the same, that nothing was cut off.
                Ok(()) => _ = std::fs::remove_file(container.bundle.path().join(ADDRESS_FILE)),
                Err(fault) => tracing::error!(id, %fault, "cannot clean up after a failed create"),
            }
        });
        let _ = removal.await;
    }
}

/// The streams' descriptors in the order in which the zygote expects them; none for a terminal.
pub(super) fn fds_of(streams: Option<&Streams>) -> Vec<RawFd> {
    let Some(streams) = streams else { return Vec::new() };
    [&streams.stdin, &streams.stdout, &streams.stderr]
        .map(AsRawFd::as_raw_fd)
        .into()
}
