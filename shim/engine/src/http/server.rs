//! The server: connections, and the end of them.

use super::addr;
use super::connection::{self, Connections, Streams};
use super::guests::Guests;
use super::limits::{HttpLimits, limit};
use super::listener;
use super::request::Handler;
use crate::ctx::{ComponentState, StoreFactory};
use crate::error::HostError;
use crate::exit::{self, Outcome};
use crate::signals::DrainRequest;
use crate::spec::GuestSpec;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

/// How long requests may go on after the signal to stop. A third of the time that Kubernetes leaves a pod by default
/// (`terminationGracePeriodSeconds: 30`), and all that `docker stop` does.
pub const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// What the kernel's timer leaves the server beyond [`DRAIN_GRACE`] to end by itself.
const DRAIN_SLACK: Duration = Duration::from_secs(2);

/// Worker threads at most. Each costs memory in every pod; a pod that needs more of the node is better run as several.
const MAX_THREADS: usize = 4;

/// Stack of a thread. Guests run on stacks of their own, so this need only hold the host's functions.
const THREAD_STACK: usize = 1024 * 1024;

/// Turns of tasks after which a worker looks for new connections, data and timers. Tokio's default of 61 is for tasks that
/// take microseconds; a guest that computes takes a whole [`crate::signals::TICK`], and new requests would wait a second.
const TURNS_PER_POLL: u32 = 8;

/// Threads that may wait in blocking file operations of guests. They end when idle.
const MAX_BLOCKING_THREADS: usize = 32;

/// What hyper may keep of a head that is not complete, and of an answer that is not taken.
const BUFFER: usize = 64 * 1024;

/// How long to wait before accepting again where the process is out of file descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Serves HTTP with the guest until a signal stops it: code 0 if all requests were finished, 128 + the signal's number
/// if [`DRAIN_GRACE`] was over before.
///
/// The calling thread only accepts connections and keeps the time; guests run on worker threads. However busy those are,
/// a signal is seen and its clock runs.
pub(crate) fn serve(pre: ProxyPre<ComponentState>, spec: GuestSpec) -> Result<Outcome, HostError> {
    let address = addr::from_env(&spec.env, spec.http_port)?;
    let limits = Arc::new(spec.http_limits.clone());
    let connections = listener::connections(limits.max_connections.get());
    let connections = Arc::new(Connections::new(connections));
    let guests = Guests::new(Arc::clone(&limits), Arc::clone(&connections));
    let handler = Handler::new(pre, StoreFactory::new(spec)?, guests, Arc::clone(&limits));
    let front = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(no_event_loop)?;
    let listener = front.block_on(async { listener::listen(&address, &limits) })?;
    let workers = workers()?;
    let server = Server {
        listener,
        workers: workers.handle().clone(),
        protocols: Arc::new(protocols(&limits)),
        handler: Arc::new(handler),
        connections,
        limits,
    };
    let outcome = front.block_on(server.serve_until_signal());
    // Without waiting: what still runs was given its time.
    workers.shutdown_background();
    outcome
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

fn protocols(limits: &HttpLimits) -> auto::Builder<Streams> {
    let resets = limits.max_resets.get() as usize;
    let mut protocols = auto::Builder::new(Streams);
    // The connection's own watch does what this timeout does.
    protocols.http1().header_read_timeout(None).max_buf_size(BUFFER);
    protocols
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limit(limits.ping_interval))
        .keep_alive_timeout(limits.ping_timeout)
        .max_concurrent_streams(limits.max_streams.get())
        .max_pending_accept_reset_streams(resets)
        .max_local_error_reset_streams(resets)
        .max_send_buf_size(BUFFER);
    protocols
}

struct Server {
    listener: TcpListener,
    workers: Handle,
    protocols: Arc<auto::Builder<Streams>>,
    handler: Arc<Handler>,
    connections: Arc<Connections>,
    limits: Arc<HttpLimits>,
}

impl Server {
    async fn serve_until_signal(self) -> Result<Outcome, HostError> {
        let drain = DrainRequest::subscribe(DRAIN_GRACE + DRAIN_SLACK);
        let drain = drain.map_err(|reason| HostError::Setup {
            what: "signal handling",
            reason,
        })?;
        let signal = tokio::select! {
            signal = drain.received() => signal,
            never = self.accept() => match never {},
        };
        let Server {
            listener,
            connections,
            handler,
            ..
        } = self;
        drop(listener);
        let finished = async {
            connections.drain().await;
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

    /// Hands connections to the workers until the future is dropped.
    async fn accept(&self) -> Infallible {
        let mut failing = false;
        loop {
            // A registration belongs to one runtime, hence by way of the standard library's type.
            match self.listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => {
                    failing = false;
                    let place = self.connections.place().await;
                    let member = self.connections.open_in(place, &self.limits);
                    let (protocols, handler) = (Arc::clone(&self.protocols), Arc::clone(&self.handler));
                    self.workers.spawn(async move {
                        if let Ok(stream) = TcpStream::from_std(stream) {
                            // Answers are written whole, so that holding back small packets could only delay them.
                            let _ = stream.set_nodelay(true);
                            connection::serve(Arc::clone(&member.connection), stream, protocols, handler).await;
                        }
                        drop(member);
                    });
                }
                Err(error) => {
                    // Once, not twenty times a second.
                    if !std::mem::replace(&mut failing, true) {
                        exit::print(&format!("cannot accept connections for now: {error}"));
                    }
                    self.connections.make_room();
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}
