//! A small HTTP/1.1 client over a connection that somebody else made, such as one inside of a network namespace.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{Error, Result, deadline, deadline::within};

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Response {
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Gets `path`.
///
/// # Errors
/// As [`send`].
pub async fn get(stream: TcpStream, path: &str) -> Result<Response> {
    let request = Request::get(path).body(Full::default());
    send(stream, request.map_err(broken)?).await
}

/// Sends a request and waits for the whole answer, at most [`deadline::CALL`].
///
/// # Errors
/// [`Error::Deadline`], or what was wrong with the connection or the answer.
pub async fn send(stream: TcpStream, mut request: Request<Full<Bytes>>) -> Result<Response> {
    let peer = stream
        .peer_addr()
        .map_err(Error::system("cannot use", "a connection"))?;
    if !request.headers().contains_key(HOST) {
        let host = peer.to_string().parse().map_err(broken)?;
        request.headers_mut().insert(HOST, host);
    }
    let what = format!("an answer from {peer} to {} {}", request.method(), request.uri());
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        driver.abort();
        Ok::<_, hyper::Error>(Response {
            status: head.status,
            headers: head.headers,
            body,
        })
    };
    within(what, deadline::CALL, exchange).await?.map_err(broken)
}

fn broken(cause: impl std::error::Error) -> Error {
    let source = cause.source().map(|source| format!(": {source}"));
    Error::Setup(format!("HTTP: {cause}{}", source.unwrap_or_default()))
}
