//! `delete`: what containerd runs when a container's shim is dead. Ends what the container left running and
//! removes what it left behind, without the shim's memory: from the bundle.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message, MessageField};

use super::peer;
use crate::bundle::{ADDRESS_FILE, Bundle};
use crate::cgroup::Cgroups;
use crate::cleanup::Remains;
use crate::cli::Args;
use crate::events::timestamp;
use crate::fault::{Fault, Result};
use crate::lock;
use crate::paths::Paths;

/// How a container ended whose shim cannot tell any more: as if by SIGKILL, which is what has happened to it.
const UNKNOWN_EXIT: u32 = 137;
/// How long a dead shim's zygote may take to end what it has started; it gives itself two seconds.
const LAST_WORK: Duration = Duration::from_secs(3);

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
    // A shim that was killed leaves a zygote that ends what it was at: until then it may still make what is removed here.
    let socket = socket_of(&paths, &path);
    if let Some(socket) = socket.as_deref().filter(|socket| is_dead(socket)) {
        // In vain, if it hangs in the kernel: the rest can go all the same.
        let _ = lock::wait_for_end(socket, LAST_WORK);
    }
    // containerd runs this action after an orderly Delete as well, which takes the address away.
    let shim_is_dead = path.join(ADDRESS_FILE).exists();
    Remains {
        id: &args.id,
        rootfs: &rootfs,
        bundle: bundle.as_ref(),
        cgroups: &Cgroups::default(),
        systemd_cgroup: bundle.as_ref().is_some_and(Bundle::has_systemd_cgroup),
        shim_is_dead,
        hooks_are_due: shim_is_dead,
    }
    .remove()?;
    if let Some(socket) = socket {
        remove_dead(&socket);
    }

    let response = DeleteResponse {
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

/// The shim's socket, as `start` noted it.
fn socket_of(paths: &Paths, bundle: &Path) -> Option<PathBuf> {
    let address = std::fs::read_to_string(bundle.join(ADDRESS_FILE)).ok()?;
    let socket = PathBuf::from(address.trim().strip_prefix("unix://")?);
    // The bundle is containerd's, but only a socket of ours is ours to remove.
    (socket.parent() == Some(&paths.sockets())).then_some(socket)
}

/// Whether nobody answers: not so if the shim serves the rest of the pod, or if that cannot be told.
fn is_dead(socket: &Path) -> bool {
    peer::answers(socket).is_ok_and(|answers| !answers)
}

fn remove_dead(socket: &Path) {
    if let Some(Ok(_lock)) = socket.parent().map(lock::sockets)
        && is_dead(socket)
    {
        let _ = std::fs::remove_file(socket);
    }
}
