//! `start`: prints the address of the shim that serves the container, after starting one where none does.
//!
//! All containers of a CRI pod go to one shim. The new shim is a fork of this very process, not another
//! execution of the binary: there is nothing to load and relocate again, and its socket listens before its
//! address is printed, so containerd never connects too early.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use nix::unistd::{ForkResult, fork};
use serde::Deserialize;

use super::peer;
use super::placement::Placement;
use super::read_input;
use crate::bundle::ADDRESS_FILE;
use crate::cgroup;
use crate::cli::Args;
use crate::daemon::{self, Daemon};
use crate::fault::{Fault, Result};
use crate::lock::{self, Lock};
use crate::node_config::NodeConfig;
use crate::paths::Paths;

/// Annotations that name a pod, in the order of preference: CRI's sandbox, and the generic one of runc's shim.
const GROUP_ANNOTATIONS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];
/// Name of the variable with containerd's ttrpc socket, for events.
const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";
/// Name of the variable with containerd's gRPC socket, where there is no flag.
const GRPC_ADDRESS: &str = "GRPC_ADDRESS";
/// What a forked shim says when its socket is there.
const LISTENS: &[u8] = b"+";
/// A spec is some ten KiB.
const MAX_SPEC_BYTES: u64 = 8 << 20;

/// How containerd asked, which decides the form of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// containerd >= 2.3: a message on standard input and one back; Task v3.
    Bootstrap,
    /// Older: flags and environment, the plain address back; Task v2. containerd 1.6 knows nothing else, and
    /// nothing tells it from 2.2, which takes it as well.
    Plain,
}

/// What a shim must know of its containerd.
#[derive(Debug)]
pub struct Peer {
    /// The form of the reply.
    pub protocol: Protocol,
    /// Path of the gRPC socket.
    pub grpc: String,
    /// Path of the ttrpc socket.
    pub ttrpc: String,
    /// What came on standard input, if it was parameters.
    pub params: Option<BootstrapParams>,
}

/// Runs the action. In the forked shim this returns when the shim ends.
pub fn run(args: &Args) -> Result<()> {
    cgroup::attach::expect_soon();
    let input = read_input()?;
    let env = |name| std::env::var(name).unwrap_or_default();
    let peer = identify(&input, args, env(TTRPC_ADDRESS), env(GRPC_ADDRESS))?;
    let bundle = std::env::current_dir()
        .map_err(|error| Fault::internal(format!("cannot tell the bundle directory: {error}")))?;
    let group = group_of(&bundle)?.unwrap_or_else(|| args.id.clone());
    let paths = Paths::from_env();
    let socket = paths.socket(&peer.grpc, &args.namespace, &group);
    let placement = Placement::of_parent(&input, peer.params.as_ref());

    // One at a time: two containers of a pod may be started at once, and a dying shim removes its socket
    // under the same lock.
    let lock = lock_for(&socket)?;
    if !peer::answers(&socket)? {
        // Before the fork: what is wrong with it reaches the user.
        let config = NodeConfig::read(paths.config())?;
        let (listens, tell) =
            std::io::pipe().map_err(|error| Fault::exhausted(format!("cannot make a pipe to the shim: {error}")))?;
        // SAFETY: this process has started no thread.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { .. }) => drop(tell),
            Ok(ForkResult::Child) => {
                placement.take()?;
                // The descriptor; the lock itself is the parent's.
                drop((lock, listens));
                // containerd kills this action's process when its client gives up: what makes the socket must be the one
                // that removes it.
                let listener = listen(&socket)?;
                let _ = (&tell).write_all(LISTENS);
                drop(tell);
                let daemon = shim(args, peer, socket, bundle, paths, config);
                return daemon::run(daemon, listener);
            }
            Err(errno) => return Err(Fault::exhausted(format!("cannot fork the shim: {errno}"))),
        }
        let mut told = Vec::new();
        let _ = (&listens).take(LISTENS.len() as u64).read_to_end(&mut told);
        if told != LISTENS {
            return Err(Fault::internal("the new shim ended before it listened"));
        }
    }
    let address = format!("unix://{}", socket.display());
    write_address(&bundle, &address)?;
    reply(peer.protocol, &address)
}

/// Serves in the foreground, on `-socket` or where `start` would: for debugging a shim by hand.
pub fn serve(args: &Args) -> Result<()> {
    let env = |name| std::env::var(name).unwrap_or_default();
    let peer = identify(&[], args, env(TTRPC_ADDRESS), env(GRPC_ADDRESS))?;
    let bundle = std::env::current_dir()
        .map_err(|error| Fault::internal(format!("cannot tell the bundle directory: {error}")))?;
    let paths = Paths::from_env();
    let socket = args
        .socket
        .clone()
        .unwrap_or_else(|| paths.socket(&peer.grpc, &args.namespace, &args.id));
    let lock = lock_for(&socket)?;
    let listener = listen(&socket)?;
    drop(lock);
    let config = NodeConfig::read(paths.config())?;
    daemon::run(shim(args, peer, socket, bundle, paths, config), listener)
}

fn shim(args: &Args, peer: Peer, socket: PathBuf, bundle: PathBuf, paths: Paths, config: NodeConfig) -> Daemon {
    Daemon {
        namespace: args.namespace.clone(),
        containerd: peer.grpc,
        events: peer.ttrpc,
        socket,
        bundle,
        debug: args.debug,
        paths,
        config,
    }
}

/// Tells the protocol by what came on standard input: containerd >= 2.3 sends [`BootstrapParams`], older ones
/// nothing or the runtime options, an `Any`, which decodes as `BootstrapParams` too: its two fields land in
/// the first two. So the names must be those of the flags.
pub fn identify(input: &[u8], args: &Args, ttrpc: String, grpc: String) -> Result<Peer> {
    let params = BootstrapParams::parse_from_bytes(input)
        .ok()
        .filter(|params| !input.is_empty() && params.instance_id == args.id && params.namespace == args.namespace);
    let first = |choices: [&str; 3]| choices.into_iter().find(|c| !c.is_empty()).map(str::to_owned);
    let of_params = params.as_ref();
    let strip = |address: &str| address.strip_prefix("unix://").unwrap_or(address).to_owned();
    let grpc = first([
        of_params.map_or("", |params| params.containerd_grpc_address.as_str()),
        args.address.as_str(),
        grpc.as_str(),
    ]);
    let ttrpc = first([
        of_params.map_or("", |params| params.containerd_ttrpc_address.as_str()),
        &ttrpc,
        "",
    ]);
    let missing = |what: &str| {
        Fault::invalid(format!(
            "containerd's {what} address is not given: run this binary from containerd"
        ))
    };
    Ok(Peer {
        protocol: if params.is_some() {
            Protocol::Bootstrap
        } else {
            Protocol::Plain
        },
        grpc: strip(&grpc.ok_or_else(|| missing("gRPC"))?),
        ttrpc: strip(&ttrpc.ok_or_else(|| missing("ttrpc"))?),
        params,
    })
}

/// The pod that the bundle's container belongs to. Only annotations are read: a spec with other faults gets
/// its error from Create, where it reaches the user.
fn group_of(bundle: &Path) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: Option<std::collections::HashMap<String, String>>,
    }
    let spec = File::open(bundle.join("config.json"));
    let Ok(spec) = spec else { return Ok(None) };
    let spec = std::io::Read::take(std::io::BufReader::new(spec), MAX_SPEC_BYTES);
    let Ok(Annotated {
        annotations: Some(annotations),
    }) = serde_json::from_reader(spec)
    else {
        return Ok(None);
    };
    let group = GROUP_ANNOTATIONS.iter().find_map(|name| annotations.get(*name));
    Ok(group.filter(|group| !group.is_empty()).cloned())
}

fn lock_for(socket: &Path) -> Result<Lock> {
    let dir = socket.parent().unwrap_or(Path::new("/"));
    let fault = |error: std::io::Error| Fault::internal(format!("cannot make {}: {error}", dir.display()));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(fault)?;
    lock::sockets(dir)
}

fn listen(socket: &Path) -> Result<UnixListener> {
    let fault = |error: std::io::Error| Fault::internal(format!("cannot listen on {}: {error}", socket.display()));
    // Left by a shim that was killed: nobody answered.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fault(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(fault)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(fault)?;
    Ok(listener)
}

/// containerd 1.6 finds the shim again after a restart by this file; later ones write their own.
fn write_address(bundle: &Path, address: &str) -> Result<()> {
    let (temporary, file): (PathBuf, PathBuf) = (bundle.join(".address"), bundle.join(ADDRESS_FILE));
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut out| out.write_all(address.as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, &file))
        .map_err(|error| Fault::internal(format!("cannot write {}: {error}", file.display())))
}

fn reply(protocol: Protocol, address: &str) -> Result<()> {
    let bytes = match protocol {
        Protocol::Plain => address.as_bytes().to_vec(),
        Protocol::Bootstrap => BootstrapResult {
            version: 3,
            address: address.to_owned(),
            protocol: "ttrpc".into(),
            ..Default::default()
        }
        .write_to_bytes()
        .map_err(|error| Fault::internal(format!("cannot encode the reply: {error}")))?,
    };
    std::io::stdout()
        .write_all(&bytes)
        .map_err(|error| Fault::internal(format!("cannot reply: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Action;
    use containerd_shim_protos::protobuf::well_known_types::any::Any;

    fn args() -> Args {
        Args {
            action: Action::Start,
            namespace: "k8s.io".into(),
            id: "c1".into(),
            address: "/run/c.sock".into(),
            bundle: None,
            socket: None,
            debug: false,
        }
    }

    #[test]
    fn an_old_containerd_gets_the_plain_address() {
        let options = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: vec![8, 1],
            ..Default::default()
        };
        for input in [Vec::new(), options.write_to_bytes().unwrap()] {
            let peer = identify(&input, &args(), "/run/c.ttrpc".into(), String::new()).unwrap();
            assert_eq!(peer.protocol, Protocol::Plain);
            assert_eq!(
                (peer.grpc.as_str(), peer.ttrpc.as_str()),
                ("/run/c.sock", "/run/c.ttrpc")
            );
        }
    }

    #[test]
    fn a_containerd_that_sends_parameters_is_answered_in_kind() {
        let params = BootstrapParams {
            instance_id: "c1".into(),
            namespace: "k8s.io".into(),
            containerd_ttrpc_address: "unix:///run/t".into(),
            containerd_grpc_address: "/run/g".into(),
            ..Default::default()
        };
        let input = params.write_to_bytes().unwrap();
        let peer = identify(&input, &args(), String::new(), String::new()).unwrap();
        assert_eq!(peer.protocol, Protocol::Bootstrap);
        assert_eq!((peer.grpc.as_str(), peer.ttrpc.as_str()), ("/run/g", "/run/t"));
    }

    #[test]
    fn without_an_address_for_events_there_is_no_shim() {
        assert!(identify(&[], &args(), String::new(), String::new()).is_err());
    }

    #[test]
    fn a_pods_containers_are_one_group_and_a_lone_container_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(group_of(dir.path()).unwrap(), None);
        let json = r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"pod"}}"#;
        std::fs::write(dir.path().join("config.json"), json).unwrap();
        assert_eq!(group_of(dir.path()).unwrap(), Some("pod".into()));
    }
}
