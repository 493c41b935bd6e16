//! The Create call: from a bundle to a confined process that waits for Start.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::types::mount::Mount;
use tandem_engine::http::{DEFAULT_PORT, SPIN_PORT};
use tandem_image::{ErrorKind, ImageError, Resolution, WasmLayer};

use super::container::{Container, OwnModule, Status};
use super::reservation::Reservation;
use super::state::{Answer, Target};
use super::{Service, blocking};
use crate::bundle::Bundle;
use crate::cli::check_name;
use crate::entry::{self, Entry};
use crate::fault::{Fault, Kind, Result};
use crate::options::Options;
use crate::rootfs;
use crate::stdio::{self, Relay, StreamNames, StreamOwner, Streams};
use crate::zygote::wire::{Create, Op, Request, Workload};

/// What will run, and where its module is.
pub(super) struct Plan {
    /// What will run.
    pub workload: Workload,
    /// Where its module is.
    pub module: Module,
}

/// Where a module is.
pub(super) enum Module {
    /// There is none.
    None,
    /// A file of the container's.
    File(File),
    /// A layer of the image; read only if the cache has no code for its digest.
    Layer(WasmLayer),
}

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
            let Prepared {
                streams,
                mut relay,
                entry,
            } = prepared;
            relay.ready().await?;
            self.state.lock().container_mut(&id)?.init.relay = relay;
            let plan = self.plan(&id, entry).await?;
            let create = Create {
                id: id.clone(),
                bundle: request.bundle.clone().into(),
                state_root: self.paths.containers(&self.namespace),
                systemd_cgroup,
                terminal: streams.is_none(),
                workload: plan.workload,
            };
            let target = Target::Container(id.clone());
            let request = |op| Request::Create {
                op,
                create: create.clone(),
            };
            self.hand_over(target, request, fds_of(streams.as_ref()), plan.module)
                .await
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

    /// Has the zygote make a process; twice, where the first answer is that it needs the module's bytes. A guest's memory
    /// limit and its module come after the other descriptors.
    pub(super) async fn hand_over(
        &self,
        target: Target,
        request: impl Fn(Op) -> Request,
        mut fds: Vec<RawFd>,
        module: Module,
    ) -> Result<()> {
        let memory = match module {
            Module::None => None,
            Module::File(_) | Module::Layer(_) => Some(self.memory_cell(target.container())?),
        };
        fds.extend(memory.as_ref().map(AsRawFd::as_raw_fd));
        if let Module::File(file) = &module {
            fds.push(file.as_raw_fd());
        }
        let ask = async |fds: &[RawFd]| self.zygote.ask(Some(target.clone()), &request, fds).await;
        if let (Answer::NeedsModule, Module::Layer(layer)) = (ask(&fds).await?, &module) {
            let file = self.images.open(layer).await.map_err(image_fault)?;
            fds.push(file.as_raw_fd());
            ask(&fds).await?;
        }
        Ok(())
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

    /// Decides by the entrypoint's content, and only where there is no such file by the image's layers,
    /// which costs calls to containerd.
    async fn plan(&self, id: &str, entry: Entry) -> Result<Plan> {
        match entry {
            Entry::Linux => Ok(Plan {
                workload: Workload::Linux,
                module: Module::None,
            }),
            Entry::Wasm { file, name, export } => Ok(Plan {
                workload: Workload::Wasm {
                    name,
                    export,
                    digest: None,
                    http_port: DEFAULT_PORT,
                },
                module: Module::File(file),
            }),
            Entry::Missing { name, export } => self.plan_layer(id, &name, export).await,
        }
    }

    async fn plan_layer(&self, id: &str, name: &str, export: Option<String>) -> Result<Plan> {
        match self.images.resolve(id).await.map_err(image_fault)? {
            Resolution::Module(layer) => {
                let own = OwnModule { layer };
                let plan = own.plan(export);
                self.state.lock().container_mut(id)?.module = Some(own);
                Ok(plan)
            }
            Resolution::NoWasm { image } => Err(Fault::not_found(format!(
                "entrypoint \"{}\" is not in the root file system of image {image}, which has no Wasm layer either: correct the image's entrypoint or the pod's command",
                name.escape_debug()
            ))),
        }
    }
}

/// What a Create opens.
struct Prepared {
    streams: Option<Streams>,
    relay: Relay,
    entry: Entry,
}

/// All of a Create that touches files which the node does not answer for: logs, snapshots, volumes. On a thread that may
/// wait, and without a lock: a disk that hangs keeps this one call only.
fn prepare(names: &StreamNames, owner: &StreamOwner, mounts: &[Mount], bundle: &Bundle) -> Result<Prepared> {
    let (streams, relay) = stdio::open(names, owner)?;
    let root = bundle.rootfs();
    if !mounts.is_empty() {
        rootfs::mount_all(mounts, &root)?;
    }
    let cwd = bundle.process().map(|process| process.cwd().as_path());
    if let Some(cwd) = cwd.filter(|cwd| *cwd != Path::new("/") && cwd.is_absolute() && !bundle.is_in_mount(cwd)) {
        rootfs::ensure_working_directory(&root, cwd)?;
    }
    let entry = entry::find(bundle, &root)?;
    Ok(Prepared { streams, relay, entry })
}

impl OwnModule {
    /// To run it with this export, or its default one.
    pub(super) fn plan(&self, export: Option<String>) -> Plan {
        let layer = &self.layer;
        Plan {
            workload: Workload::Wasm {
                name: format!("Wasm layer {} of image {}", layer.digest, layer.image),
                export,
                digest: Some(layer.digest.to_string()),
                http_port: if layer.spin { SPIN_PORT } else { DEFAULT_PORT },
            },
            module: Module::Layer(layer.clone()),
        }
    }
}

/// The streams' descriptors in the order in which the zygote expects them; none for a terminal.
pub(super) fn fds_of(streams: Option<&Streams>) -> Vec<RawFd> {
    let Some(streams) = streams else { return Vec::new() };
    [&streams.stdin, &streams.stdout, &streams.stderr]
        .map(AsRawFd::as_raw_fd)
        .into()
}

fn image_fault(error: ImageError) -> Fault {
    let kind = match error.kind() {
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::InvalidArgument => Kind::InvalidArgument,
        ErrorKind::FailedPrecondition => Kind::FailedPrecondition,
        ErrorKind::Unavailable => Kind::Unavailable,
        ErrorKind::Internal => Kind::Internal,
    };
    Fault {
        kind,
        message: crate::fault::chain(&error),
    }
}
