//! The command line that containerd executes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Error, Result, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{ForkResult, Pid, fork};

use crate::daemon;
use crate::service::timestamp;

/// Where sockets are kept, unless `FLOOR_RUN_DIR` names another folder.
const RUN_DIR: &str = "/run/tandem-floor";

/// The exit status that `delete` reports for a task whose shim died: 128 + SIGKILL.
const KILLED: u32 = 137;

/// What containerd says about the task, in flags with a single dash.
#[derive(Default)]
pub struct Arguments {
    pub namespace: String,
    pub id: String,
    /// containerd's gRPC socket; its ttrpc socket has the same name with `.ttrpc` behind it.
    pub containerd: String,
    verb: String,
}

/// Does what `args` (the program's name first) ask for.
pub fn run(args: impl Iterator<Item = String>) -> Result<()> {
    let arguments = Arguments::parse(args);
    match arguments.verb.as_str() {
        "start" => start(&arguments),
        "delete" => delete(&arguments),
        "-info" => info(),
        "-v" => {
            println!("containerd-shim-floor-v1 {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        verb => Err(Error::other(format!(
            "no such verb: {verb:?}; use start, delete, -info or -v"
        ))),
    }
}

impl Arguments {
    fn parse(mut args: impl Iterator<Item = String>) -> Self {
        let mut parsed = Self::default();
        let _program = args.next();
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_default();
            match arg.as_str() {
                "-namespace" => parsed.namespace = value(),
                "-id" => parsed.id = value(),
                "-address" => parsed.containerd = value(),
                "-bundle" | "-publish-binary" | "-socket" => drop(value()),
                "-debug" => {}
                verb => parsed.verb = verb.to_owned(),
            }
        }
        parsed
    }

    /// The socket of this task's shim, the same for `start` and for `delete`.
    fn socket(&self) -> PathBuf {
        // A hash, because the ids of a task and its namespace may be longer than a socket's name can be (107).
        let mut hasher = DefaultHasher::new();
        (&self.containerd, &self.namespace, &self.id).hash(&mut hasher);
        let folder = std::env::var_os("FLOOR_RUN_DIR").unwrap_or_else(|| RUN_DIR.into());
        PathBuf::from(folder).join(format!("{:016x}.sock", hasher.finish()))
    }
}

/// Binds the socket, leaves the daemon behind and prints the address.
///
/// The socket accepts connections before the address is printed, so containerd never has to try again. The
/// daemon is forked, not executed anew: at this point the process has one thread and no runtime.
fn start(arguments: &Arguments) -> Result<()> {
    let socket = arguments.socket();
    let listener = bind(&socket)?;
    let address = format!("unix://{}", socket.display());
    // containerd 1.6 finds the shim by this file when it is itself restarted.
    std::fs::write("address", &address)?;
    // SAFETY: nothing has started a thread yet.
    match unsafe { fork() }? {
        ForkResult::Child => daemon::run(arguments, listener, &socket),
        ForkResult::Parent { .. } => {
            // A plain address is what every containerd from 1.6 to 2.x understands.
            std::io::stdout().write_all(address.as_bytes())
        }
    }
}

fn bind(socket: &Path) -> Result<UnixListener> {
    match UnixListener::bind(socket) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = socket.parent().unwrap_or(socket);
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            UnixListener::bind(socket)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            // An earlier task of this name, whose shim was killed and never deleted.
            std::fs::remove_file(socket)?;
            UnixListener::bind(socket)
        }
        bound => bound,
    }
}

/// Removes what a shim that died (or that containerd has given up) left behind.
fn delete(arguments: &Arguments) -> Result<()> {
    let socket = arguments.socket();
    // A daemon that has not come as far as `daemon::detach` does not name itself yet, but sees that the socket
    // is gone and ends; one that has come further still answers under the other name.
    let gone = socket.with_extension("gone");
    if std::fs::rename(&socket, &gone).is_ok() {
        kill_daemon(&gone)?;
        std::fs::remove_file(&gone)?;
    }
    let response = DeleteResponse {
        exit_status: KILLED,
        exited_at: MessageField::some(timestamp()),
        ..Default::default()
    };
    print(&response)
}

/// Kills the shim that listens on `socket`, if one does.
fn kill_daemon(socket: &Path) -> Result<()> {
    let Ok(stream) = UnixStream::connect(socket) else {
        return Ok(());
    };
    let pid = getsockopt(&stream, PeerCredentials)?.pid();
    // Not a process that has got the number of one that ended.
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    if program(&pid.to_string()) == program("self") {
        // It may have ended since.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    Ok(())
}

fn info() -> Result<()> {
    print(&RuntimeInfo {
        name: "io.containerd.floor.v1".to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        }),
        features: MessageField::some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features".to_owned(),
            value: br#"{"ociVersionMin":"1.0.0","ociVersionMax":"1.2.0"}"#.to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn print(message: &impl Message) -> Result<()> {
    let bytes = message.write_to_bytes().map_err(Error::other)?;
    std::io::stdout().write_all(&bytes)
}
