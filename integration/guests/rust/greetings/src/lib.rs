//! The API of `deploy/examples/hybrid.yaml`: a `wasi:http` component that keeps its counts in Redis, an ordinary
//! container next to it. Proves that a guest reaches a Service by its name over `wasi:sockets`.
//!
//! | path | answer |
//! |---|---|
//! | `/greet/NAME` | 200, `hello NAME, greeted N times`; 503 with the reason if Redis cannot be asked |
//! | `/healthz` | 200; asks nobody |
//! | others | 404 |
//!
//! `REDIS` is the address, `HOST:PORT`.

mod redis;

use std::env;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Server;

wasip2::http::proxy::export!(Server);

impl Guest for Server {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let (status, text) = match path.strip_prefix("/greet/") {
            Some(name) if !name.is_empty() => match greet(name) {
                Ok(count) => (200, format!("hello {name}, greeted {count} times\n")),
                Err(reason) => (503, format!("{reason}\n")),
            },
            _ if path == "/healthz" => (200, "ok\n".to_owned()),
            _ => (404, format!("no such path: {path}\n")),
        };
        answer(out, status, &text);
    }
}

/// Counts a greeting of `name`; answers how many there were.
fn greet(name: &str) -> Result<i64, String> {
    let address = env::var("REDIS").unwrap_or_else(|_| "localhost:6379".into());
    redis::increment(&address, &format!("greetings:{name}"))
        .map_err(|error| format!("redis at {address}: {error}"))
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let headers = Fields::new();
    headers
        .set("content-type", &[b"text/plain".to_vec()])
        .expect("a valid header");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("a valid status");
    let body = response
        .body()
        .expect("the body of a response that nobody asked for it yet");
    ResponseOutparam::set(out, Ok(response));
    let stream = body
        .write()
        .expect("the stream of a body that nobody asked for it yet");
    // The client may be gone, which ends its request, not this server. The texts here fit into one write.
    let _ = stream.blocking_write_and_flush(text.as_bytes());
    // A body can only be finished once its stream is dropped.
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
