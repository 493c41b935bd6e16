//! HTTP servers, and the clients that they meet.

use super::{Guest, Started, eventually, guests};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A server on a free port of the loopback address.
pub struct Server {
    pub guest: Started,
    pub address: SocketAddr,
}

impl Server {
    pub fn start() -> Self {
        Self::with_limits("{}")
    }

    /// With limits other than the defaults, in JSON.
    pub fn with_limits(limits: &str) -> Self {
        Self::prepared(limits, |_| {})
    }

    /// The same, from a command that is changed before it is run.
    pub fn prepared(limits: &str, change: impl FnOnce(&mut std::process::Command)) -> Self {
        // Free a moment ago; the kernel does not hand it out again at once.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address_variable = format!("TANDEM_HTTP_ADDR={address}");
        let mut guest = Guest::new(guests::http(0), &["--http-limits", limits, "--env", &address_variable]);
        change(&mut guest.command);
        let guest = guest.start();
        let server = Server { guest, address };
        eventually("the server", || TcpStream::connect(address).is_ok());
        server
    }

    pub fn send(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        stream
    }

    pub fn get(&self, path: &str) -> String {
        answer(self.send(path))
    }

    /// Ends it and returns its exit code, the rest of its stdout and its stderr.
    pub fn stop(mut self) -> (i32, String, String) {
        self.guest.signal(libc::SIGTERM);
        let (code, stderr, _) = self.guest.wait();
        (code, self.guest.rest_of_stdout(), stderr)
    }
}

pub fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    // A connection that the server breaks off still has an answer so far.
    if let Err(error) = stream.read_to_string(&mut text) {
        eprintln!("after {text:?}: {error}");
    }
    text
}

/// One request on a connection that stays open for the next.
pub fn request_and_keep(stream: &mut TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 1024]);
    while !text.ends_with("0\r\n\r\n") {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}

impl Server {
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// A connection that has sent `bytes`.
    pub fn send_bytes(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// A request as anybody would send it, which is answered in time whatever others do.
    pub fn serves_others(&self) {
        let mut stream = self.send("/");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (start, mut text) = (Instant::now(), String::new());
        let result = stream.read_to_string(&mut text);
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("hello\n"),
            "after {:?}: {result:?} {text:?}",
            start.elapsed()
        );
    }

    /// The descriptors of the server's process.
    pub fn descriptors(&self) -> usize {
        let pid = self.guest.child.id();
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    }
}

/// How long a well-behaved client waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether the server has closed the connection, whatever it sent before.
pub fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// A client of HTTP/2 that does what it likes.
pub struct Http2 {
    pub stream: TcpStream,
    next: u32,
}

/// A frame of HTTP/2.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;

impl Http2 {
    /// Connects; the client's window for each stream has so many bytes.
    pub fn connect(server: &Server, window: u32) -> Self {
        let stream = server.send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut client = Self { stream, next: 1 };
        let mut settings = vec![0, 4];
        settings.extend(window.to_be_bytes());
        client.send(SETTINGS, 0, 0, &settings).unwrap();
        client
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame)
    }

    /// Opens a stream for a request, of which it may say that it is all.
    pub fn open(&mut self, path: &str, whole: bool) -> std::io::Result<u32> {
        let stream = self.next;
        self.next += 2;
        // `:method: POST`, `:scheme: http`, then `:path` and `:authority` as literals.
        let mut head = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        head.extend(path.as_bytes());
        head.extend(b"\x01\x04test");
        self.send(HEADERS, 4 | u8::from(whole), stream, &head)?;
        Ok(stream)
    }

    /// Takes a request back.
    pub fn reset(&mut self, stream: u32) -> std::io::Result<()> {
        self.send(RST_STREAM, 0, stream, &8u32.to_be_bytes())
    }

    /// The next frame; none at the connection's end.
    pub fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The next frame of a kind for a stream.
    pub fn wait_for(&mut self, kind: u8, stream: u32) -> Frame {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        loop {
            let frame = self.frame();
            assert!(frame.is_some(), "no frame {kind} for stream {stream}");
            let frame = frame.unwrap();
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
        }
    }
}
