//! The server: connections, and the end of them.

use super::addr::{self, Address};
use super::request::Handler;
use crate::ctx::{ComponentState, StoreFactory};
use crate::error::HostError;
use crate::exit::{self, Outcome};
use crate::signals::DrainRequest;
use crate::spec::GuestSpec;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

/// How long requests may go on after the signal to stop. A third of the time that Kubernetes leaves a pod by default
/// (`terminationGracePeriodSeconds: 30`), and all that `docker stop` does.
pub const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// What the kernel's timer leaves the server beyond [`DRAIN_GRACE`] to end by itself.
const DRAIN_SLACK: Duration = Duration::from_secs(2);

/// How long a connection may wait for a request, the first or the next one, and a request for its headers to be complete.
/// Longer than the 60 s after which the usual load balancers drop an idle connection, so that the drop is never ours:
/// a server that closes first can do so while the next request is already on its way.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// Connections that the kernel may hold for us until they are accepted.
const BACKLOG: u32 = 1024;

/// Worker threads at most. Each costs memory in every pod; a pod that needs more of the node is better run as several.
const MAX_THREADS: usize = 4;

/// Stack of a thread. Guests run on stacks of their own, so this need only hold the host's functions.
const THREAD_STACK: usize = 1024 * 1024;

/// Turns of tasks after which a worker looks for new connections, data and timers. Tokio's default of 61 is for tasks that
/// take microseconds; a guest that computes takes a whole [`crate::signals::TICK`], and new requests would wait a second.
const TURNS_PER_POLL: u32 = 8;

/// Threads that may wait in blocking file operations of guests. They end when idle.
const MAX_BLOCKING_THREADS: usize = 32;

/// How long to wait before accepting again where the process is out of file descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Serves HTTP with the guest until a signal stops it: code 0 if all requests were finished, 128 + the signal's number
/// if [`DRAIN_GRACE`] was over before.
///
/// The calling thread only accepts connections and keeps the time; guests run on worker threads. However busy those are,
/// a signal is seen and its clock runs.
pub(crate) fn serve(pre: ProxyPre<ComponentState>, spec: GuestSpec) -> Result<Outcome, HostError> {
    let address = addr::from_env(&spec.env, spec.http_port)?;
    let handler = Arc::new(Handler::new(pre, StoreFactory::new(spec)?));
    let front = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(no_event_loop)?;
    let listener = front.block_on(async { listen(&address) })?;
    let workers = workers()?;
    let outcome = front.block_on(serve_until_signal(listener, workers.handle(), &handler));
    // Without waiting: what still runs was given its time.
    workers.shutdown_background();
    outcome
}

async fn serve_until_signal(
    listener: TcpListener,
    workers: &Handle,
    handler: &Arc<Handler>,
) -> Result<Outcome, HostError> {
    let drain = DrainRequest::subscribe(DRAIN_GRACE + DRAIN_SLACK);
    let drain = drain.map_err(|reason| HostError::Setup {
        what: "signal handling",
        reason,
    })?;
    let connections = GracefulShutdown::new();
    let signal = tokio::select! {
        signal = drain.received() => signal,
        never = accept(&listener, workers, handler, &connections) => match never {},
    };
    drop(listener);
    let finished = async {
        connections.shutdown().await;
        handler.idle().await;
    };
    if tokio::time::timeout(DRAIN_GRACE, finished).await.is_ok() {
        return Ok(Outcome::Exited(0));
    }
    let seconds = DRAIN_GRACE.as_secs();
    exit::print(&format!(
        "requests were still running {seconds} s after signal {signal}, ending them"
    ));
    Ok(Outcome::Exited(128 + signal))
}

fn workers() -> Result<Runtime, HostError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads(threads.min(MAX_THREADS))
        .event_interval(TURNS_PER_POLL)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_stack_size(THREAD_STACK)
        .thread_name("tandem-http")
        .enable_all()
        .build()
        .map_err(no_event_loop)
}

fn no_event_loop(reason: io::Error) -> HostError {
    HostError::Setup {
        what: "the event loop",
        reason,
    }
}

fn listen(address: &Address) -> Result<TcpListener, HostError> {
    let bind = || {
        let socket = if address.socket.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        // A restarted container must not wait for the connections of its predecessor to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address.socket)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|reason| HostError::HttpBind {
        address: address.socket,
        variable: address.variable,
        reason,
    })
}

/// Hands connections to the workers until the future is dropped.
async fn accept(
    listener: &TcpListener,
    workers: &Handle,
    handler: &Arc<Handler>,
    connections: &GracefulShutdown,
) -> Infallible {
    let protocols = Arc::new(protocols());
    let mut failing = false;
    // Its end is noticed by all connections that wait for their first byte, which hyper does not shut down as it has
    // not seen them yet.
    let (_accepting, stopped) = watch::channel(());
    loop {
        // A registration belongs to one runtime, hence by way of the standard library's type.
        match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                failing = false;
                let serving = serve_connection(
                    stream,
                    Arc::clone(&protocols),
                    Arc::clone(handler),
                    connections.watcher(),
                    stopped.clone(),
                );
                workers.spawn(serving);
            }
            Err(error) => {
                // Once, not twenty times a second.
                if !std::mem::replace(&mut failing, true) {
                    exit::print(&format!("cannot accept connections for now: {error}"));
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn protocols() -> auto::Builder<TokioExecutor> {
    let mut protocols = auto::Builder::new(TokioExecutor::new());
    protocols
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    protocols.http2().timer(TokioTimer::new());
    protocols
}

/// Errors of a connection are its client's: it went away, or does not speak HTTP. There is nobody to tell.
async fn serve_connection(
    stream: std::net::TcpStream,
    protocols: Arc<auto::Builder<TokioExecutor>>,
    handler: Arc<Handler>,
    watcher: Watcher,
    mut stopped: watch::Receiver<()>,
) {
    let Ok(stream) = TcpStream::from_std(stream) else {
        return;
    };
    // Answers are written whole, so that holding back small packets could only delay them.
    let _ = stream.set_nodelay(true);
    // Hyper's own timeout only runs once it knows the protocol.
    tokio::select! {
        biased;
        ready = stream.readable() => if ready.is_err() { return },
        _ = stopped.changed() => return,
        () = tokio::time::sleep(HEADER_TIMEOUT) => return,
    }
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(handler.handle(request).await) }
    });
    let connection = protocols.serve_connection(TokioIo::new(stream), service);
    let _ = watcher.watch(connection.into_owned()).await;
}
