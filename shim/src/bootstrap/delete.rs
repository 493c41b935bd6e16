//! `delete`: what containerd runs when a container's shim is dead. Ends what the container left running and
//! removes what it left behind, without the shim's memory: from libcontainer's state and the bundle.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message, MessageField};
use libcontainer::container::Container;

use crate::bundle::Bundle;
use crate::cgroup::Cgroups;
use crate::cleanup::Remains;
use crate::cli::Args;
use crate::daemon;
use crate::events::timestamp;
use crate::fault::{Fault, Result};
use crate::paths::Paths;

/// How a container ended whose shim cannot tell any more: as if by SIGKILL, which is what has happened to it.
const UNKNOWN_EXIT: u32 = 137;

/// Runs the action and prints a `DeleteResponse`.
pub fn run(args: &Args) -> Result<()> {
    let paths = Paths::from_env();
    let path = match &args.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir()
            .map_err(|error| Fault::internal(format!("cannot tell the bundle directory: {error}")))?,
    };
    // A bundle that could never have been created has nothing but perhaps a mount.
    let bundle = Bundle::load(&path).ok();
    let rootfs = bundle.as_ref().map_or_else(|| path.join("rootfs"), Bundle::rootfs);
    let state = paths.container(&args.namespace, &args.id);
    let container = Container::load(state.clone()).ok();
    let pid = container
        .as_ref()
        .and_then(Container::pid)
        .map_or(0, |pid| pid.as_raw());
    Remains {
        id: &args.id,
        state: &state,
        rootfs: &rootfs,
        bundle: bundle.as_ref(),
        cgroups: &Cgroups::default(),
        systemd_cgroup: container.as_ref().is_some_and(Container::systemd),
        shim_is_dead: true,
    }
    .remove()?;
    remove_dead_socket(&paths, &path);

    let response = DeleteResponse {
        pid: pid.unsigned_abs(),
        exit_status: UNKNOWN_EXIT,
        exited_at: MessageField::some(timestamp(SystemTime::now())),
        ..Default::default()
    };
    let bytes = response
        .write_to_bytes()
        .map_err(|error| Fault::internal(format!("cannot encode the reply: {error}")))?;
    std::io::stdout()
        .write_all(&bytes)
        .map_err(|error| Fault::internal(format!("cannot reply: {error}")))
}

/// Removes the shim's socket unless a shim answers on it, one that serves the rest of the pod.
fn remove_dead_socket(paths: &Paths, bundle: &Path) {
    let Ok(address) = std::fs::read_to_string(bundle.join("address")) else {
        return;
    };
    let Some(socket) = address.trim().strip_prefix("unix://").map(Path::new) else {
        return;
    };
    // The bundle is containerd's, but only a socket of ours is ours to remove.
    if socket.parent() != Some(&paths.sockets()) {
        return;
    }
    if let Ok(_lock) = daemon::lock_sockets(&paths.sockets())
        && UnixStream::connect(socket).is_err()
    {
        let _ = std::fs::remove_file(socket);
    }
}
