//! Serves a `wasi:http` component: HTTP/1.1, a fresh instance for every request.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::guest::State;

/// The variable of the container that names the address to listen on, and the one for the queue's length.
const ADDRESS: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";
const BACKLOG: &str = "WASMTIME_HTTP_BACKLOG";

const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
const DEFAULT_BACKLOG: u32 = 100;

/// How long to wait after a failed accept: the usual cause is a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

struct Server {
    proxy: ProxyPre<State>,
    environment: Vec<(String, String)>,
    requests: AtomicU64,
}

/// Answers requests until the process ends.
pub async fn serve(proxy: ProxyPre<State>, mut environment: Vec<(String, String)>) -> Result<()> {
    let address = match take(&mut environment, ADDRESS) {
        Some(address) => address
            .parse()
            .with_context(|| format!("{ADDRESS}={address:?} is not an address and port"))?,
        None => DEFAULT_ADDRESS,
    };
    let backlog = take(&mut environment, BACKLOG)
        .and_then(|length| length.parse().ok())
        .unwrap_or(DEFAULT_BACKLOG);

    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket
        .bind(address)
        .with_context(|| format!("cannot listen on {address}"))?;
    let listener = socket.listen(backlog)?;
    log::info!("serving HTTP on {address}");

    let server = Arc::new(Server {
        proxy,
        environment,
        requests: AtomicU64::new(0),
    });
    loop {
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                log::error!("accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let server = server.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(server.clone(), request));
            if let Err(error) = http1::Builder::new()
                .serve_connection(TokioIo::new(connection), answer)
                .await
            {
                log::error!("connection: {error:?}");
            }
        });
    }
}

/// Runs the guest for one request, until it has set the response; what it does after that goes on by itself.
async fn answer(server: Arc<Server>, request: Request<Incoming>) -> Result<Response<HyperOutgoingBody>> {
    let id = server.requests.fetch_add(1, Ordering::Relaxed);
    let wasi = WasiCtxBuilder::new()
        .envs(&server.environment)
        .env("REQUEST_ID", id.to_string())
        .build();
    let mut store = Store::new(server.proxy.engine(), State::new(wasi));
    let (sender, response) = oneshot::channel();
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
    let out = store.data_mut().http().new_response_outparam(sender)?;
    let guest = server.proxy.instantiate_async(&mut store).await?;

    let call = tokio::spawn(async move {
        guest
            .wasi_http_incoming_handler()
            .call_handle(store, request, out)
            .await
    });
    match response.await {
        Ok(response) => Ok(response?),
        Err(_) => Err(match call.await {
            Ok(Ok(())) => anyhow!("the guest returned without a response"),
            Ok(Err(error)) => anyhow!("the guest failed before it had a response: {error:#}"),
            Err(error) => error.into(),
        }),
    }
}

fn take(environment: &mut Vec<(String, String)>, name: &str) -> Option<String> {
    let at = environment.iter().position(|(variable, _)| variable == name)?;
    Some(environment.swap_remove(at).1)
}
