//! Clients that are slow, silent, gone or hostile, and the others that are served meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by it, and so may its helpers")]

mod common;

use common::server::{DATA, HEADERS, Http2, PING, RST_STREAM, SETTINGS, Server, answer, is_closed, request_and_keep};
use common::{Guest, eventually, guests};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

/// Bytes that fit into the window of a stream that never gets more.
const SMALL: u32 = 1000;
/// More than a test sends or takes.
const LARGE: u32 = 1 << 20;

fn all_closed(streams: &mut [TcpStream]) -> bool {
    streams.iter_mut().all(is_closed)
}

#[test]
fn sockets_that_do_not_begin_make_room_and_are_closed_in_time() {
    let server = Server::with_limits(r#"{"max_connections": 40, "handshake_timeout": 2, "header_timeout": 2}"#);
    // The first request opens what the server keeps.
    server.serves_others();
    let before = server.descriptors();
    // The first byte of POST could be that of HTTP/2's preface, and is all that comes.
    let silent = (0..300).map(|n| server.send_bytes(if n % 2 == 0 { b"" } else { b"P" }));
    let mut silent: Vec<TcpStream> = silent.collect();
    server.serves_others();
    let open = server.descriptors();
    assert!(open < before + 50, "{open} descriptors, {before} before");
    eventually("their end", || all_closed(&mut silent));
    eventually("the end of their descriptors", || server.descriptors() <= before);
    assert_eq!(server.stop().0, 0);
}

#[test]
fn a_head_that_comes_a_byte_at_a_time_has_its_time() {
    let server = Server::with_limits(r#"{"header_timeout": 1, "max_connections": 20}"#);
    let mut slow = (0..20)
        .map(|_| server.send_bytes(b"GET / HTTP/1.1\r\nHost: a\r\nX: "))
        .collect::<Vec<_>>();
    let start = Instant::now();
    while !all_closed(&mut slow) {
        assert!(start.elapsed() < Duration::from_secs(10), "they are still open");
        for stream in &mut slow {
            let _ = stream.write_all(b"x");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    server.serves_others();
}

#[test]
fn the_time_of_a_head_does_not_end_a_connection_that_waits_for_its_next_request() {
    let server = Server::with_limits(r#"{"header_timeout": 0.3, "handshake_timeout": 0.3, "idle_timeout": 3}"#);
    let mut kept = server.connect();
    for _ in 0..2 {
        request_and_keep(&mut kept);
        std::thread::sleep(Duration::from_secs(1));
    }
    let start = Instant::now();
    eventually("its end", || is_closed(&mut kept));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_guest_that_waits_for_a_slow_body_gets_an_error_and_its_place_is_free_again() {
    let server = Server::with_limits(r#"{"body_timeout": 1, "min_rate": 500}"#);
    let head = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    let silent = server.send_bytes(head);
    let mut slow = server.send_bytes(head);
    let mut fair = server.send_bytes(head);
    for _ in 0..20 {
        // 60 bytes a second, and 2000.
        let _ = slow.write_all(&[b'x'; 3]);
        fair.write_all(&[b'x'; 50]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut text = [0; 15];
    fair.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"HTTP/1.1 200 OK");
    for stream in [silent, slow] {
        let text = answer(stream);
        assert!(text.starts_with("HTTP/1.1 500 "), "{text}");
    }
    assert!(server.stop().2.contains("request POST /body: guest trapped"));
}

#[test]
fn guests_that_wait_for_their_clients_make_room_for_those_that_do_not() {
    let server = Server::with_limits(r#"{"max_guests": 4}"#);
    let head = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n";
    let _stalled = (0..12).map(|_| server.send_bytes(head)).collect::<Vec<_>>();
    let _deaf = (0..4).map(|_| server.send("/flood")).collect::<Vec<_>>();
    for _ in 0..3 {
        server.serves_others();
    }
}

#[test]
fn clients_that_stop_reading_are_cut_off() {
    let server = Server::with_limits(r#"{"body_timeout": 1, "orphan_grace": 1, "max_guests": 8}"#);
    // The first request opens what the server keeps.
    server.serves_others();
    let before = server.descriptors();
    let deaf = (0..8).map(|_| server.send("/flood")).collect::<Vec<_>>();
    server.serves_others();
    eventually("the end of their descriptors", || server.descriptors() <= before);
    drop(deaf);
    server.serves_others();
    assert_eq!(server.stop().0, 0, "a guest still ran");
}

#[test]
fn a_stream_whose_window_stays_shut_is_reset_and_its_connection_goes_on() {
    let server = Server::with_limits(r#"{"body_timeout": 1}"#);
    let mut client = Http2::connect(&server, SMALL);
    let deaf = client.open("/flood", true).unwrap();
    client.wait_for(DATA, deaf);
    client.wait_for(RST_STREAM, deaf);
    let other = client.open("/", true).unwrap();
    assert_eq!(
        client.wait_for(HEADERS, other).payload[0],
        0x88,
        "the status is not 200"
    );
}

#[test]
fn streams_without_their_bodies_do_not_keep_others_out() {
    let server = Server::with_limits(r#"{"max_guests": 100, "max_streams": 200, "body_timeout": 2}"#);
    // The first request opens what the server keeps.
    server.serves_others();
    let before = server.descriptors();
    let mut clients = (0..6).map(|_| Http2::connect(&server, LARGE)).collect::<Vec<_>>();
    for client in &mut clients {
        for _ in 0..200 {
            client.open("/body", false).unwrap();
        }
    }
    for _ in 0..3 {
        server.serves_others();
    }
    drop(clients);
    eventually("the end of their descriptors", || server.descriptors() <= before);
    assert_eq!(server.stop().0, 0, "a guest still ran");
}

#[test]
fn a_connection_has_only_so_many_streams() {
    let server = Server::with_limits(r#"{"max_streams": 3}"#);
    let mut client = Http2::connect(&server, LARGE);
    let streams: Vec<u32> = (0..4).map(|_| client.open("/body", false).unwrap()).collect();
    client.wait_for(RST_STREAM, streams[3]);
}

#[test]
fn a_client_that_takes_back_its_requests_loses_its_connection() {
    let server = Server::with_limits(r#"{"orphan_grace": 1}"#);
    // The first request opens what the server keeps.
    server.serves_others();
    let before = server.descriptors();
    let mut client = Http2::connect(&server, LARGE);
    for _ in 0..1500 {
        let opened = client.open("/slow", true).and_then(|stream| client.reset(stream));
        if opened.is_err() {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    server.serves_others();
    eventually("its end", || is_closed(&mut client.stream));
    eventually("the end of its descriptor", || server.descriptors() <= before);
    let (code, stdout, _) = server.stop();
    let guests = stdout.lines().count();
    assert!(code == 0 && guests < 400, "code {code}, {guests} guests ran");
}

#[test]
fn a_guest_whose_client_is_gone_has_a_grace() {
    let mut server = Server::with_limits(r#"{"orphan_grace": 1.5}"#);
    let start = Instant::now();
    for path in ["/slow", "/loop"] {
        let client = server.send(path);
        assert_eq!(server.guest.line(), "request\n");
        drop(client);
    }
    // A drain waits for guests: the one that loops is not waited for beyond its grace.
    server.guest.signal(libc::SIGTERM);
    let (code, stderr, _) = server.guest.wait();
    assert_eq!(code, 0, "{stderr}");
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(
        stderr.contains("request GET /loop: ended 1.5 s after its client had gone"),
        "{stderr}"
    );
    assert!(!stderr.contains("/slow"), "{stderr}");
}

#[test]
fn a_request_that_takes_too_long_is_answered_for_and_ended() {
    let server = Server::with_limits(r#"{"request_timeout": 1}"#);
    let text = answer(server.send("/loop"));
    assert!(text.starts_with("HTTP/1.1 504 "), "{text}");
    // This one has begun to answer.
    let text = answer(server.send("/flood"));
    assert!(
        text.starts_with("HTTP/1.1 200 ") && !text.ends_with("0\r\n\r\n"),
        "{}",
        text.len()
    );
    let (code, _, stderr) = server.stop();
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stderr.contains("request GET /loop: ended after 1 s (request_timeout)"),
        "{stderr}"
    );
}

#[test]
fn a_request_for_which_no_guest_is_free_in_time_is_told_so() {
    let mut server = Server::with_limits(r#"{"max_guests": 1, "queue_timeout": 1}"#);
    let _busy = server.send("/loop");
    assert_eq!(server.guest.line(), "request\n");
    let text = answer(server.send("/"));
    assert!(
        text.starts_with("HTTP/1.1 503 ") && text.contains("retry-after: 1\r\n"),
        "{text}"
    );
}

#[test]
fn the_connection_that_has_been_idle_longest_makes_room() {
    let server = Server::with_limits(r#"{"max_connections": 3}"#);
    let mut kept = (0..3).map(|_| server.connect()).collect::<Vec<_>>();
    for stream in &mut kept {
        request_and_keep(stream);
        std::thread::sleep(Duration::from_millis(100));
    }
    server.serves_others();
    assert!(is_closed(&mut kept[0]));
    assert!(!is_closed(&mut kept[1]) && !is_closed(&mut kept[2]));
}

#[test]
fn connections_that_work_are_not_closed_for_new_ones() {
    let mut server = Server::with_limits(r#"{"max_connections": 2}"#);
    let slow = [server.send("/slow"), server.send("/slow")];
    for _ in 0..2 {
        assert_eq!(server.guest.line(), "request\n");
    }
    server.serves_others();
    for stream in slow {
        assert!(answer(stream).contains("hello\n"));
    }
}

#[test]
fn a_client_of_http_2_that_answers_no_ping_is_closed() {
    let server = Server::with_limits(r#"{"ping_interval": 0.5, "ping_timeout": 1}"#);
    let mut dead = Http2::connect(&server, LARGE);
    let mut alive = Http2::connect(&server, LARGE);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        let ping = alive.wait_for(PING, 0);
        if ping.flags & 1 == 0 {
            alive.send(PING, 1, 0, &ping.payload).unwrap();
        }
    }
    assert!(is_closed(&mut dead.stream));
    let stream = alive.open("/", true).unwrap();
    assert_eq!(
        alive.wait_for(HEADERS, stream).payload[0],
        0x88,
        "the status is not 200"
    );
}

#[test]
fn an_idle_connection_of_http_2_is_closed_in_time() {
    let server = Server::with_limits(r#"{"idle_timeout": 1, "body_timeout": 1}"#);
    let mut client = Http2::connect(&server, LARGE);
    client.wait_for(SETTINGS, 0);
    let start = Instant::now();
    while client.frame().is_some() {}
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
}

/// Soft and hard limit of a process.
fn descriptor_limit(pid: u32) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    let mut columns = line.split_whitespace().map(str::to_owned);
    (columns.next().unwrap(), columns.next().unwrap())
}

fn with_few_descriptors(command: &mut std::process::Command) {
    let limit = libc::rlimit {
        rlim_cur: 64,
        rlim_max: 512,
    };
    // SAFETY: setrlimit is async-signal-safe and is given a structure that outlives the call.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

#[test]
fn a_server_has_the_descriptors_that_it_may_have_and_a_command_keeps_its_limit() {
    let server = Server::prepared("{}", with_few_descriptors);
    assert_eq!(descriptor_limit(server.guest.child.id()), ("512".into(), "512".into()));
    // More clients than descriptors: the idle ones make room.
    let _idle = (0..700).map(|_| server.connect()).collect::<Vec<_>>();
    server.serves_others();
    let mut command = Guest::new(guests::sleep(), &[]);
    with_few_descriptors(&mut command.command);
    let mut command = command.start();
    assert_eq!(command.line(), "ready\n");
    assert_eq!(descriptor_limit(command.child.id()), ("64".into(), "512".into()));
}

#[test]
fn a_client_that_never_lets_go_does_not_keep_the_server_from_ending() {
    let server = Server::with_limits(r#"{"body_timeout": 1, "orphan_grace": 0.5}"#);
    let mut client = Http2::connect(&server, 0);
    let stream = client.open("/", true).unwrap();
    client.wait_for(HEADERS, stream);
    let _half = server.send_bytes(b"GET / HT");
    let _preface = server.send_bytes(b"PRI");
    let _silent = server.connect();
    let start = Instant::now();
    assert_eq!(server.stop().0, 0);
    assert!(
        start.elapsed() < tandem_engine::http::DRAIN_GRACE,
        "{:?}",
        start.elapsed()
    );
}
