//! Guests that serve HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by it, and so may its helpers")]

mod common;

use common::server::{Server, answer, request_and_keep};
use common::{Guest, eventually, guests};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

#[test]
fn a_request_is_answered_and_the_guest_s_output_is_the_container_s() {
    let server = Server::start();
    let text = server.get("/");
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("hello\n"),
        "{text}"
    );
    assert_eq!(server.stop(), (0, "request\n".into(), String::new()));
}

#[test]
fn a_guest_that_fails_costs_its_own_client_an_answer_and_nobody_else() {
    let server = Server::start();
    for (path, reason) in [("/trap", "unreachable"), ("/none", "without a response")] {
        let text = server.get(path);
        assert!(text.starts_with("HTTP/1.1 500 "), "{reason}: {text}");
    }
    // Part of the answer is out by the time of the trap: all that can be done is not to end it like a whole one.
    let text = server.get("/mid");
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\n") && !text.ends_with("0\r\n\r\n"),
        "{text}"
    );
    assert!(server.get("/").contains("hello\n"));
    let (code, _, stderr) = server.stop();
    assert_eq!(code, 0);
    assert!(
        stderr.contains("tandem: request GET /trap: guest trapped: wasm trap: wasm `unreachable`"),
        "{stderr}"
    );
    assert!(
        stderr.contains("tandem: request GET /none: the guest returned without a response"),
        "{stderr}"
    );
    assert!(stderr.contains("tandem: request GET /mid: guest trapped: "), "{stderr}");
}

#[test]
fn one_connection_carries_many_requests() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    for _ in 0..3 {
        request_and_keep(&mut stream);
    }
}

#[test]
fn http_2_without_tls_is_spoken_on_the_same_port() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "the first frame is not SETTINGS: {frame:?}");
}

#[test]
fn requests_in_flight_are_finished_after_sigterm_and_new_ones_refused() {
    let mut server = Server::start();
    let slow = server.send("/slow");
    assert_eq!(server.guest.line(), "request\n");
    // Neither a connection without a request nor one that waits for its next must delay the end.
    let _idle = TcpStream::connect(server.address).unwrap();
    let mut kept = TcpStream::connect(server.address).unwrap();
    request_and_keep(&mut kept);
    server.guest.signal(libc::SIGTERM);
    eventually("refusal", || TcpStream::connect(server.address).is_err());
    assert!(answer(slow).contains("hello\n"));
    let (code, stderr, took) = server.guest.wait();
    assert_eq!(code, 0, "after {took:?}: {stderr}");
}

#[test]
fn requests_that_compute_for_ever_stop_neither_the_others_nor_the_end() {
    let mut server = Server::start();
    // More than there are threads.
    let _busy = [(); 8].map(|()| server.send("/loop"));
    for _ in 0..8 {
        assert_eq!(server.guest.line(), "request\n");
    }
    let text = server.get("/");
    assert!(text.contains("hello\n"), "{text:?}");
    let start = Instant::now();
    server.guest.signal(libc::SIGTERM);
    let (code, stderr, _) = server.guest.wait();
    assert_eq!(code, 143, "{stderr}");
    assert!(stderr.contains("requests were still running"), "{stderr}");
    let took = start.elapsed();
    let grace = tandem_engine::http::DRAIN_GRACE;
    assert!(took >= grace && took < grace + Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_second_sigint_ends_a_drain() {
    let mut server = Server::start();
    let _busy = server.send("/loop");
    assert_eq!(server.guest.line(), "request\n");
    server.guest.signal(libc::SIGINT);
    eventually("refusal", || TcpStream::connect(server.address).is_err());
    server.guest.signal(libc::SIGINT);
    let (code, _, took) = server.guest.wait();
    assert_eq!(code, 130);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn an_address_that_is_taken_is_the_host_s_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let variable = format!("WASMTIME_HTTP_PROXY_SOCKET_ADDR={}", taken.local_addr().unwrap());
    let (code, _, stderr) = Guest::new(guests::http(0), &["--env", &variable]).output();
    assert_eq!(code, 125);
    assert!(
        stderr.contains("WASMTIME_HTTP_PROXY_SOCKET_ADDR") && stderr.contains("in use"),
        "{stderr}"
    );
}

#[test]
fn what_is_no_address_is_the_host_s_error() {
    let (code, _, stderr) = Guest::new(guests::http(0), &["--env", "TANDEM_HTTP_ADDR=nowhere"]).output();
    assert_eq!(code, 125);
    assert!(stderr.contains("TANDEM_HTTP_ADDR=`nowhere`"), "{stderr}");
}

#[test]
fn only_http_1_0_may_leave_out_the_host() {
    let server = Server::start();
    let text = answer(server.send_bytes(b"GET / HTTP/1.0\r\n\r\n"));
    assert!(text.starts_with("HTTP/1.0 200 "), "{text}");
    let text = answer(server.send_bytes(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"));
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
}

#[test]
fn a_request_that_names_no_host_or_two_is_refused() {
    let server = Server::start();
    for hosts in [
        "Host: a\r\nHost: b",
        "Host: a\r\nhost: a",
        "Host: user@a",
        "Host: a:b",
        "Host: a b",
        "Host:",
    ] {
        let request = format!("GET / HTTP/1.1\r\n{hosts}\r\nConnection: close\r\n\r\n");
        let text = answer(server.send_bytes(request.as_bytes()));
        assert!(text.starts_with("HTTP/1.1 400 "), "{hosts}: {text}");
    }
    // No guest has seen any of them.
    assert_eq!(server.stop().1, "");
}
