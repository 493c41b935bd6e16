//! The shim's own process: the fork of the zygote, the async runtime, the ttrpc server, and its orderly end.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::shim_async::{Task, create_task};
use containerd_shim_protos::ttrpc::asynchronous::{Server, transport::Listener};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::events::Events;
use crate::fault::{Fault, Result};
use crate::lock;
use crate::logging;
use crate::node_config::NodeConfig;
use crate::paths::Paths;
use crate::service::{Service, Settings};
use crate::zygote::Zygote;

/// The protocol crate's name of the service, and the older one that containerd 1.x calls; same messages.
const TASK_V3: &str = "containerd.task.v3.Task";
const TASK_V2: &str = "containerd.task.v2.Task";
/// How long the last events may take to reach a containerd that is away, before the shim ends without it.
const LAST_EVENTS: Duration = Duration::from_secs(10);
/// How often a shim without containers looks whether its bundle is still there.
const IDLE_CHECK: Duration = Duration::from_secs(1);
/// How often one with containers looks whether it still has any.
const BUSY_CHECK: Duration = Duration::from_secs(60);
/// Time for the reply to Shutdown to leave the process. containerd takes a closed connection for an answer as well, so
/// this only keeps its log clean; and it waits for the shim's end, so it must be short.
const LAST_REPLY: Duration = Duration::from_millis(1);
/// How long the zygote of the same bundle's last shim may take to end, before this one goes on beside it.
const ZYGOTE_END: Duration = Duration::from_secs(3);

/// A shim to be.
pub struct Daemon {
    /// containerd namespace.
    pub namespace: String,
    /// containerd's gRPC socket.
    pub containerd: String,
    /// containerd's ttrpc socket.
    pub events: String,
    /// The shim's own socket.
    pub socket: PathBuf,
    /// The bundle it was started in; its `log` FIFO takes the log.
    pub bundle: PathBuf,
    /// Verbose log.
    pub debug: bool,
    /// The node's directories.
    pub paths: Paths,
    /// The node's configuration.
    pub config: NodeConfig,
}

/// Serves on `listener` until containerd says Shutdown. The process must be single-threaded and becomes two:
/// in the zygote, this returns when the service is gone.
pub fn run(daemon: Daemon, listener: UnixListener) -> Result<()> {
    detach(&daemon)?;
    let (service_end, zygote_end) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|errno| Fault::internal(format!("cannot make a socket pair: {errno}")))?;
    // SAFETY: this process is a fork of a single-threaded one and has started no thread.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            drop((listener, service_end));
            let _ = nix::sys::prctl::set_name(c"tandem-zygote");
            let lives = lock::live(&daemon.socket, ZYGOTE_END)?;
            Zygote::new(zygote_end, &daemon.paths, &daemon.config)?.serve();
            drop(lives);
            Ok(())
        }
        Ok(ForkResult::Parent { .. }) => {
            drop(zygote_end);
            let _ = nix::sys::prctl::set_name(c"tandem-shim");
            // One thread serves a pod's few calls; a second one would only cost memory.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Fault::internal(format!("cannot start the async runtime: {error}")))?;
            let result = runtime.block_on(serve(&daemon, listener, service_end));
            // A blocking call that hangs in the kernel must not keep the shim.
            runtime.shutdown_background();
            result
        }
        Err(errno) => Err(Fault::exhausted(format!("cannot fork the zygote: {errno}"))),
    }
}

/// Leaves containerd's session, directory and streams; `start`'s streams must close for containerd to go on.
fn detach(daemon: &Daemon) -> Result<()> {
    let fault = |what: &str, why: String| Fault::internal(format!("cannot {what}: {why}"));
    setsid().map_err(|errno| fault("leave the session", errno.to_string()))?;
    logging::to_bundle(&daemon.bundle, daemon.debug);
    chdir("/").map_err(|errno| fault("change to /", errno.to_string()))?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| fault("open /dev/null", error.to_string()))?;
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .and_then(|()| dup2_stderr(&null))
        .map_err(|errno| fault("replace the standard streams", errno.to_string()))
}

async fn serve(daemon: &Daemon, listener: UnixListener, zygote: OwnedFd) -> Result<()> {
    let fault = |what: &str, error: &dyn std::fmt::Display| Fault::internal(format!("{what}: {error}"));
    let events = Events::forward_to(daemon.events.clone(), daemon.namespace.clone());
    let exit = Arc::new(Notify::new());
    let settings = Settings {
        config: daemon.config.clone(),
        namespace: daemon.namespace.clone(),
        containerd: daemon.containerd.clone(),
        socket: daemon.socket.clone(),
    };
    let service = Arc::new(Service::new(settings, zygote, events, Arc::clone(&exit))?);
    let tasks: Arc<dyn Task + Send + Sync> = service.clone();

    listener
        .set_nonblocking(true)
        .map_err(|error| fault("cannot serve", &error))?;
    let listener = Listener::try_from(listener).map_err(|error| fault("cannot serve", &error))?;
    let v3 = create_task(Arc::clone(&tasks));
    let v2 = create_task(Arc::clone(&tasks))
        .into_iter()
        .map(|(name, service)| (name.replace(TASK_V3, TASK_V2), service))
        .collect();
    let mut server = Server::new()
        .add_listener(listener)
        .register_service(v3)
        .register_service(v2);
    server.start().await.map_err(|error| fault("cannot serve", &error))?;

    let mut terminate = signal(SignalKind::terminate()).map_err(|error| fault("cannot watch SIGTERM", &error))?;
    tokio::select! {
        () = exit.notified() => {}
        () = abandoned(&service, &daemon.bundle) => tracing::warn!("the bundle is gone and nothing was created: ending"),
        // The node's admin or its shutdown; the containers end with the zygote.
        _ = terminate.recv() => {}
    }
    service.leave().await;
    service.drain_events(LAST_EVENTS).await;
    tokio::time::sleep(LAST_REPLY).await;
    Ok(())
}

/// Returns when the shim has no container and the bundle it was started for does not exist any more: containerd gave
/// up on it without a word (2.3 does, if it refuses the spec after `start`), and no call will ever come.
async fn abandoned(service: &Service, bundle: &Path) {
    loop {
        let idle = service.is_idle();
        tokio::time::sleep(if idle { IDLE_CHECK } else { BUSY_CHECK }).await;
        if idle && service.is_idle() && !bundle.exists() {
            return;
        }
    }
}
