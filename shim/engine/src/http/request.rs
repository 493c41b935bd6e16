//! One request: an instance, a call, an answer.
//!
//! The guest runs on the task of its client's connection for as long as that waits for the answer, which costs no
//! hand-over between tasks. A guest with more to do after its answer has begun (a streamed body, work to finish) goes on
//! in a task of its own. So does the guest of a client that went away: cutting it short in the middle of a change would
//! surprise it more than an answer that nobody reads.

use super::body::{Failed, ResponseBody};
use crate::ctx::{ComponentState, StoreFactory};
use crate::exit::{self, describe_trap};
use http::header::{HOST, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// Requests that may run at once; more wait their turn. Each holds an instance, whose linear memory reserves up to 8 GiB
/// of address space: this many fit well into the 128 TiB that a process has.
pub(super) const MAX_CONCURRENT: usize = 1024;

/// What all requests share.
pub(super) struct Handler {
    pre: ProxyPre<ComponentState>,
    stores: StoreFactory,
    /// Permits to run; all of them are back when nothing runs any more.
    running: Arc<Semaphore>,
}

type Answer = Result<Response<HyperOutgoingBody>, ErrorCode>;
type GuestRun = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send>>;

impl Handler {
    pub(super) fn new(pre: ProxyPre<ComponentState>, stores: StoreFactory) -> Self {
        Self {
            pre,
            stores,
            running: Arc::new(Semaphore::new(MAX_CONCURRENT)),
        }
    }

    /// Waits until no request runs.
    pub(super) async fn idle(&self) {
        // An error means a closed semaphore, and this one is never closed.
        let _ = self
            .running
            .acquire_many(u32::try_from(MAX_CONCURRENT).unwrap_or(u32::MAX))
            .await;
    }

    /// Answers one request. There is always an answer, if need be that it failed.
    pub(super) async fn handle(&self, mut request: Request<Incoming>) -> Response<ResponseBody> {
        let Ok(permit) = Arc::clone(&self.running).acquire_owned().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the server is shutting down\n");
        };
        name_host(&mut request);
        let name = format!("{} {}", request.method(), request.uri().path());
        let failed = Failed::default();
        let (sender, mut answer) = oneshot::channel();
        let run = match self.start(request, sender, Arc::clone(&failed)) {
            Ok(run) => run,
            Err(error) => return plain(StatusCode::BAD_REQUEST, &format!("{error}\n")),
        };
        let mut guest = Running {
            run: Some(run),
            name,
            failed,
            permit: Some(permit),
        };
        tokio::select! {
            // In this order: a guest that is done has sent its answer, and needs no task of its own any more.
            biased;
            result = &mut guest => match (result, answer.try_recv()) {
                // Nothing of an answer is out yet, so that its client can still be told of the failure.
                (Err(error), _) => guest.fail(&why(&error)),
                (Ok(()), Ok(answer)) => guest.respond(answer),
                (Ok(()), Err(_)) => guest.fail("the guest returned without a response"),
            },
            Ok(answer) = &mut answer => guest.respond(answer),
        }
    }

    /// A future that runs the guest on the request. Its answer goes to `sender`; `failed` is set if it fails.
    fn start(
        &self,
        request: Request<Incoming>,
        sender: oneshot::Sender<Answer>,
        failed: Failed,
    ) -> wasmtime::Result<GuestRun> {
        let mut store = self.stores.store(self.pre.engine());
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let outparam = http.new_response_outparam(sender)?;
        let pre = self.pre.clone();
        Ok(Box::pin(async move {
            let call = async {
                let proxy = pre.instantiate_async(&mut store).await?;
                let handler = proxy.wasi_http_incoming_handler();
                handler.call_handle(&mut store, request, outparam).await
            };
            let result = match call.await {
                // Some languages' runtimes leave their handler this way.
                Err(error) if error.downcast_ref::<I32Exit>().is_some_and(|exit| exit.0 == 0) => Ok(()),
                result => result,
            };
            // Before the store goes, and with it the guest's end of the body.
            failed.store(result.is_err(), Ordering::Release);
            drop(store);
            result
        }))
    }
}

/// What went wrong with a guest, for the pod's log.
fn why(error: &wasmtime::Error) -> String {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        format!("the guest exited with code {}", exit.0)
    } else if error.is::<Trap>() || error.is::<WasmBacktrace>() {
        format!("guest trapped: {}", describe_trap(error))
    } else {
        format!("cannot run the guest: {error:#}")
    }
}

/// A guest that works on a request. Dropped before it is done, it goes on in a task of its own.
struct Running {
    run: Option<GuestRun>,
    /// Method and path of the request, for messages.
    name: String,
    failed: Failed,
    permit: Option<OwnedSemaphorePermit>,
}

impl Running {
    fn respond(&self, answer: Answer) -> Response<ResponseBody> {
        match answer {
            Ok(answer) => answer.map(|body| ResponseBody::of_guest(body, Arc::clone(&self.failed))),
            Err(code) => self.fail(&format!("the guest answered with the error {code:?}")),
        }
    }

    /// The answer where the guest gave none. Why is for the pod's log, not for its clients.
    fn fail(&self, why: &str) -> Response<ResponseBody> {
        self.log(why);
        plain(StatusCode::INTERNAL_SERVER_ERROR, "internal server error\n")
    }

    fn log(&self, text: &str) {
        exit::print(&format!("request {}: {text}", self.name));
    }
}

impl Future for Running {
    type Output = wasmtime::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(run) = &mut self.run else {
            return Poll::Ready(Ok(()));
        };
        let result = std::task::ready!(run.as_mut().poll(cx));
        self.run = None;
        Poll::Ready(result)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(run), Some(permit)) = (self.run.take(), self.permit.take()) else {
            return;
        };
        // Outside of the runtime or while unwinding there is nobody to go on with it.
        if std::thread::panicking() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let mut rest = Running {
                run: Some(run),
                name: std::mem::take(&mut self.name),
                failed: Arc::clone(&self.failed),
                permit: Some(permit),
            };
            runtime.spawn(async move {
                if let Err(error) = (&mut rest).await {
                    rest.log(&why(&error));
                }
            });
        }
    }
}

/// Gives a request of HTTP/1.0 the authority that WASI wants of each: old clients, health checks of load balancers among
/// them, need not send a `Host`. From HTTP/1.1 on they must.
fn name_host(request: &mut Request<Incoming>) {
    if request.version() == Version::HTTP_10 && request.uri().authority().is_none() {
        let headers = request.headers_mut();
        headers.entry(HOST).or_insert(HeaderValue::from_static("localhost"));
    }
}

fn plain(status: StatusCode, text: &str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::of_text(text));
    *response.status_mut() = status;
    response
}
