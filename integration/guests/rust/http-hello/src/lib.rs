//! Proves: a `wasi:http/incoming-handler` component is served on the pod's network. Each path shows one thing:
//!
//! | path | answer |
//! |---|---|
//! | `/` | 200, `hello from tandem` |
//! | `/env` | 200, the environment, one `NAME=VALUE` a line |
//! | `/echo` | 200, the request's body, passed on as it comes in |
//! | `/sleep?ms=N` | 200 after N milliseconds |
//! | `/file?path=P` | 200 with the content of file P (default `/etc/hostname`), or 404 with the reason |
//! | `/log` | 200; one line each on stdout and stderr |
//! | `/trap` | none: executes `unreachable` |
//! | `/none` | none: returns without having set a response |
//! | `/spin` | none: uses the CPU for ever |
//! | others | 404 |

use std::time::Duration;
use std::{env, fs, hint, process, thread};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

struct Server;

wasip2::http::proxy::export!(Server);

/// The most a stream takes in one `blocking-write-and-flush` (wasi:io), in bytes.
const WRITE_LIMIT: usize = 4096;

impl Guest for Server {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/" => answer(out, 200, "hello from tandem\n"),
            "/env" => {
                let lines: String = env::vars()
                    .map(|(name, value)| format!("{name}={value}\n"))
                    .collect();
                answer(out, 200, &lines);
            }
            "/echo" => echo(&request, out),
            "/sleep" => match parameter(query, "ms").unwrap_or("0").parse() {
                Ok(milliseconds) => {
                    thread::sleep(Duration::from_millis(milliseconds));
                    answer(out, 200, &format!("slept {milliseconds} ms\n"));
                }
                Err(error) => answer(out, 400, &format!("ms: {error}\n")),
            },
            "/file" => {
                let file = parameter(query, "path").unwrap_or("/etc/hostname");
                match fs::read_to_string(file) {
                    Ok(text) => answer(out, 200, &text),
                    Err(error) => answer(out, 404, &format!("{file}: {error}\n")),
                }
            }
            "/log" => {
                println!("http-hello: a line on stdout");
                eprintln!("http-hello: a line on stderr");
                answer(out, 200, "logged\n");
            }
            "/trap" => process::abort(),
            "/none" => drop(out),
            "/spin" => loop {
                hint::black_box(());
            },
            _ => answer(out, 404, &format!("no such path: {path}\n")),
        }
    }
}

/// The value of `name` in `query` (`a=1&b=2`); nothing is unescaped.
fn parameter<'query>(query: &'query str, name: &str) -> Option<&'query str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Sends a response of `status` and hands back its body, still to be written and finished.
fn begin(out: ResponseOutparam, status: u16) -> OutgoingBody {
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
    body
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let body = begin(out, status);
    let stream = body
        .write()
        .expect("the stream of a body that nobody asked for it yet");
    for part in text.as_bytes().chunks(WRITE_LIMIT) {
        // The client may be gone: its request is over then, but not this server.
        if stream.blocking_write_and_flush(part).is_err() {
            return;
        }
    }
    // A body can only be finished once its stream is dropped.
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Passes the request's body on in the parts it comes in, so that memory does not grow with its size.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let incoming = request
        .consume()
        .expect("the body of a request that nobody asked for it yet");
    let from = incoming
        .stream()
        .expect("the stream of a body that nobody asked for it yet");
    let body = begin(out, 200);
    let to = body
        .write()
        .expect("the stream of a body that nobody asked for it yet");
    loop {
        let part = match from.blocking_read(WRITE_LIMIT as u64) {
            Ok(part) => part,
            Err(StreamError::Closed) => break,
            // Without `finish` the client sees an answer that was cut short, which it was.
            Err(StreamError::LastOperationFailed(_)) => return,
        };
        if to.blocking_write_and_flush(&part).is_err() {
            return;
        }
    }
    drop(to);
    let _ = OutgoingBody::finish(body, None);
}
