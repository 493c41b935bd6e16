//! One request: an instance, a call, an answer.
//!
//! The guest runs on the task of its client's connection for as long as that waits for the answer, which costs no
//! hand-over between tasks. A guest with more to do after its answer has begun (a streamed body, work to finish) goes on
//! in a task of its own. So does the guest of a client that went away, for a while: cutting it short in the middle of a
//! change would surprise it more than an answer that nobody reads.

use super::body::{RequestBody, ResponseBody};
use super::connection::{Attached, Cause, Connection, Exchange, current_stream};
use super::guests::Guests;
use super::host;
use super::limits::{HttpLimits, limit};
use crate::ctx::{ComponentState, StoreFactory};
use crate::exit::{self, describe_trap};
use http::header::{CONTENT_LENGTH, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// What all requests share.
pub(super) struct Handler {
    pre: ProxyPre<ComponentState>,
    stores: StoreFactory,
    guests: Arc<Guests>,
    limits: Arc<HttpLimits>,
}

type Answer = Result<Response<HyperOutgoingBody>, ErrorCode>;
type GuestRun = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send>>;

impl Handler {
    pub(super) fn new(
        pre: ProxyPre<ComponentState>,
        stores: StoreFactory,
        guests: Guests,
        limits: Arc<HttpLimits>,
    ) -> Self {
        Self {
            pre,
            stores,
            guests: Arc::new(guests),
            limits,
        }
    }

    /// Waits until no request runs.
    pub(super) async fn idle(&self) {
        self.guests.idle().await;
    }

    /// Answers one request. There is always an answer, if need be that it failed.
    pub(super) async fn handle(
        &self,
        connection: &Arc<Connection>,
        mut request: Request<Incoming>,
    ) -> Response<ResponseBody> {
        let name = format!("{} {}", request.method(), request.uri().path());
        let attached = connection.begin(Exchange::new(name, current_stream()));
        let exchange = Arc::clone(attached.exchange());
        if let Err(why) = host::check(&mut request) {
            return plain(StatusCode::BAD_REQUEST, why, attached);
        }
        let place = tokio::select! {
            biased;
            place = self.guests.place() => place,
            cause = exchange.cancelled() => return given_up(cause, attached),
        };
        let Some(place) = place else {
            return busy(attached);
        };
        let to_head = request.method() == Method::HEAD;
        let (sender, mut answer) = oneshot::channel();
        let run = match self.start(request, sender, &attached) {
            Ok(run) => run,
            Err(error) => return plain(StatusCode::BAD_REQUEST, &error.to_string(), attached),
        };
        let mut guest = Running {
            work: Some(Work { run, _place: place }),
            exchange: Arc::clone(&exchange),
            guests: Arc::clone(&self.guests),
            limits: Arc::clone(&self.limits),
        };
        tokio::select! {
            // In this order: a guest that is done has sent its answer, and needs no task of its own any more.
            biased;
            result = &mut guest => match (result, answer.try_recv()) {
                // Nothing of an answer is out yet, so that its client can still be told of the failure.
                (Err(error), _) => fail(&why(&error), attached),
                (Ok(()), Ok(answer)) => respond(answer, to_head, attached),
                (Ok(()), Err(_)) => fail("the guest returned without a response", attached),
            },
            Ok(answer) = &mut answer => respond(answer, to_head, attached),
            cause = exchange.cancelled() => {
                guest.stop();
                log_deadline(&exchange, cause, &self.limits);
                given_up(cause, attached)
            }
        }
    }

    /// A future that runs the guest on the request. Its answer goes to `sender`.
    fn start(
        &self,
        request: Request<Incoming>,
        sender: oneshot::Sender<Answer>,
        attached: &Attached,
    ) -> wasmtime::Result<GuestRun> {
        let mut store = self.stores.store(self.pre.engine());
        let mut http = store.data_mut().http();
        let request = request.map(|body| RequestBody::new(body, attached, self.limits.body_timeout));
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let outparam = http.new_response_outparam(sender)?;
        let pre = self.pre.clone();
        let exchange = Arc::clone(attached.exchange());
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
            if result.is_err() {
                exchange.fail();
            }
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

fn log(exchange: &Exchange, text: &str) {
    exit::print(&format!("request {}: {text}", exchange.name));
}

/// A guest that took too long is its author's to know of; what clients do is not.
fn log_deadline(exchange: &Exchange, cause: Cause, limits: &HttpLimits) {
    if cause == Cause::Deadline {
        let seconds = limits.request_timeout.as_secs_f64();
        log(exchange, &format!("ended after {seconds} s (request_timeout)"));
    }
}

/// A guest that works on a request. Dropped before it is done, it goes on in a task of its own.
struct Running {
    work: Option<Work>,
    exchange: Arc<Exchange>,
    guests: Arc<Guests>,
    limits: Arc<HttpLimits>,
}

struct Work {
    run: GuestRun,
    /// Given back after the guest's memory is.
    _place: OwnedSemaphorePermit,
}

impl Running {
    /// Ends it where it is.
    fn stop(&mut self) {
        self.work = None;
    }
}

impl Future for Running {
    type Output = wasmtime::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(Ok(()));
        };
        let result = std::task::ready!(work.run.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(result)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        // Outside of the runtime or while unwinding there is nobody to go on with it.
        if std::thread::panicking() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(finish(
                work,
                Arc::clone(&self.exchange),
                Arc::clone(&self.guests),
                Arc::clone(&self.limits),
            ));
        }
    }
}

/// The rest of a guest's work, which is cut short when it was given up, or some time after nobody waits for it any more.
async fn finish(mut work: Work, exchange: Arc<Exchange>, guests: Arc<Guests>, limits: Arc<HttpLimits>) {
    let unwanted = async {
        exchange.left().await;
        let _orphan = (!exchange.is_answered()).then(|| guests.orphaned(Arc::clone(&exchange)));
        match limit(limits.orphan_grace) {
            Some(grace) => tokio::time::sleep(grace).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = &mut work.run => if let Err(error) = result {
            log(&exchange, &why(&error));
        },
        cause = exchange.cancelled() => log_deadline(&exchange, cause, &limits),
        () = unwanted => {
            let seconds = limits.orphan_grace.as_secs_f64();
            log(&exchange, &format!("ended {seconds} s after its client had gone or had its answer (orphan_grace)"));
        }
    }
}

/// The length of a body that its answer's head announces, or that HTTP gives it.
fn announced<B>(answer: &Response<B>, to_head: bool) -> Option<u64> {
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&answer.status());
    if to_head || bodiless {
        return Some(0);
    }
    answer.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn respond(answer: Answer, to_head: bool, attached: Attached) -> Response<ResponseBody> {
    match answer {
        Ok(answer) => {
            let announced = announced(&answer, to_head);
            answer.map(|body| ResponseBody::of_guest(body, announced, attached))
        }
        Err(code) => fail(&format!("the guest answered with the error {code:?}"), attached),
    }
}

/// The answer where the guest gave none. Why is for the pod's log, not for its clients.
fn fail(why: &str, attached: Attached) -> Response<ResponseBody> {
    log(attached.exchange(), why);
    plain(StatusCode::INTERNAL_SERVER_ERROR, "internal server error", attached)
}

fn given_up(cause: Cause, attached: Attached) -> Response<ResponseBody> {
    match cause {
        Cause::Deadline => plain(StatusCode::GATEWAY_TIMEOUT, "the request took too long", attached),
        Cause::Stalled => plain(StatusCode::REQUEST_TIMEOUT, "the client was too slow", attached),
        Cause::Room => busy(attached),
    }
}

fn busy(attached: Attached) -> Response<ResponseBody> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "the server is busy", attached);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn plain(status: StatusCode, text: &str, attached: Attached) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::of_text(&format!("{text}\n"), attached));
    *response.status_mut() = status;
    response
}
