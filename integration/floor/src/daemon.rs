//! The process that serves a task: one thread, from the fork in `start` to containerd's Shutdown.

use std::fs::{OpenOptions, remove_file};
use std::io::{Error, Result};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::shim_async::create_task;
use containerd_shim_protos::ttrpc::asynchronous::Server;
use containerd_shim_protos::ttrpc::asynchronous::transport::Listener;
use nix::sys::socket::{Backlog, listen};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use tokio::sync::Notify;

use crate::events::publisher;
use crate::service::Floor;
use crate::verbs::Arguments;

/// How long the last events and answers may keep a shim alive that was told to end, should containerd not listen.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The names under which the generated service is registered: the messages of v2 and v3 are the same.
const SERVICE_V2: &str = "containerd.task.v2.Task";
const SERVICE_V3: &str = "containerd.task.v3.Task";

/// Serves `listener`, which is bound to `socket`, until containerd calls Shutdown.
///
/// Called in the forked child; its return is the end of the process.
pub fn run(arguments: &Arguments, listener: UnixListener, socket: &Path) -> Result<()> {
    detach(&listener)?;
    if !socket.exists() {
        // Deleted before it lived: see `verbs::delete`.
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(arguments, listener));
    drop(remove_file(socket));
    served
}

/// Leaves the session and the pipes of `start`: containerd waits until both are closed.
fn detach(listener: &UnixListener) -> Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    setsid()?;
    // A socket's SO_PEERCRED names the process that called listen(2) last. With this second call that is the
    // daemon, so the `delete` verb finds out whom to kill without a pid file.
    listen(listener, Backlog::MAXCONN)?;
    std::env::set_current_dir("/")
}

async fn serve(arguments: &Arguments, listener: UnixListener) -> Result<()> {
    let shutdown = Arc::new(Notify::new());
    let (events, published) = publisher(arguments);
    let floor = Arc::new(Floor::new(events, shutdown.clone()));

    listener.set_nonblocking(true)?;
    let listener: Listener = tokio::net::UnixListener::from_std(listener)?.into();
    let mut server = Server::new().add_listener(listener);
    for name in [SERVICE_V2, SERVICE_V3] {
        let services = create_task(floor.clone())
            .into_values()
            .map(|service| (name.to_owned(), service));
        server = server.register_service(services.collect());
    }
    server.start().await.map_err(Error::other)?;

    shutdown.notified().await;
    let leave = async {
        drop(published.await);
        // Returns when the answer to Shutdown has been written.
        drop(server.shutdown().await);
    };
    drop(tokio::time::timeout(LAST_WORDS, leave).await);
    Ok(())
}
