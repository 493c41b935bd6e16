use super::*;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

fn fifo(dir: &tempfile::TempDir, name: &str) -> String {
    let path = dir.path().join(name);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    path.to_str().unwrap().to_owned()
}

fn names(stdin: &str, stdout: &str) -> StreamNames {
    StreamNames {
        stdin: stdin.into(),
        stdout: stdout.into(),
        ..Default::default()
    }
}

fn first() -> StreamOwner {
    StreamOwner {
        namespace: "ns".into(),
        id: "id".into(),
        uid: 0,
        ends_with_process: false,
    }
}

fn opened(names: StreamNames, owner: StreamOwner) -> (Streams, Relay) {
    let (streams, relay) = open(&names, &owner).unwrap();
    (streams.unwrap(), relay)
}

async fn read_all(fd: OwnedFd) -> String {
    tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        File::from(fd).read_to_string(&mut text).unwrap();
        text
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn output_needs_no_reader_and_its_end_is_seen_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "out");
    let (streams, _relay) = opened(names("", &path), first());
    let mut stdout = File::from(streams.stdout);
    stdout.write_all(b"hello").unwrap();
    let mut reader = File::open(&path).unwrap();
    drop(stdout);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn output_of_an_executed_process_ends_though_a_child_of_it_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "out");
    let owner = StreamOwner {
        ends_with_process: true,
        ..first()
    };
    let (streams, relay) = opened(names("", &path), owner);
    let reader = tokio::spawn(read_all(File::open(&path).unwrap().into()));
    let mut stdout = File::from(streams.stdout);
    stdout.write_all(b"hello").unwrap();
    let began = std::time::Instant::now();
    relay.finish().await;
    assert_eq!(reader.await.unwrap(), "hello");
    assert!(began.elapsed() >= LAST_OUTPUT);
    drop(stdout);
}

#[tokio::test]
async fn input_waits_for_its_writer_and_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "in");
    let (streams, _relay) = opened(names(&path, ""), first());
    let reading = tokio::spawn(read_all(streams.stdin));
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!reading.is_finished());
    let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
    writer.write_all(b"typed").unwrap();
    drop(writer);
    assert_eq!(reading.await.unwrap(), "typed");
}

#[tokio::test]
async fn input_ends_by_close_io_though_the_writer_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "in");
    let (streams, relay) = opened(names(&path, ""), first());
    let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
    writer.write_all(b"typed").unwrap();
    let reading = tokio::spawn(read_all(streams.stdin));
    tokio::time::sleep(Duration::from_millis(30)).await;
    relay.close_input();
    assert_eq!(reading.await.unwrap(), "typed");
    drop(writer);
}

#[tokio::test]
async fn an_unknown_log_scheme_is_named() {
    let fault = open(&names("", "gopher://x"), &first()).unwrap_err();
    assert_eq!(fault.kind, crate::fault::Kind::InvalidArgument);
    assert!(fault.message.contains("gopher"));
}

#[tokio::test]
async fn a_pipe_becomes_the_users_and_dev_null_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = fifo(&dir, "out");
    let owner = StreamOwner { uid: 1234, ..first() };
    let before = nix::sys::stat::stat("/dev/null").unwrap().st_uid;
    let (streams, _relay) = opened(names("", &path), owner);
    assert_eq!(nix::sys::stat::fstat(&streams.stdout).unwrap().st_uid, 1234);
    assert_eq!(nix::sys::stat::stat("/dev/null").unwrap().st_uid, before);
}

#[tokio::test]
async fn a_terminal_passes_on_every_byte_and_types_the_end_of_input() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (fifo(&dir, "in"), fifo(&dir, "out"));
    let names = StreamNames {
        terminal: true,
        ..names(&input, &output)
    };
    let (streams, mut relay) = open(&names, &first()).unwrap();
    assert!(streams.is_none());
    let pty = nix::pty::openpty(None, None).unwrap();
    relay.connect(pty.master).unwrap();
    relay.resize(Size { width: 132, height: 43 }).unwrap();
    // SAFETY: all-zero bytes are a valid winsize.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills `size`, which is valid for writing.
    unsafe { libc::ioctl(pty.slave.as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    assert_eq!((size.ws_col, size.ws_row), (132, 43));

    let mut writer = OpenOptions::new().write(true).open(&input).unwrap();
    writer.write_all(b"typed\n").unwrap();
    drop(writer);
    let slave = File::from(pty.slave.try_clone().unwrap());
    let typed = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        (&slave).read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(typed.await.unwrap(), "typed\n");

    let reader = tokio::spawn(read_all(File::open(&output).unwrap().into()));
    let mut slave = File::from(pty.slave);
    let text = "x".repeat(100_000);
    let all = text.clone();
    tokio::task::spawn_blocking(move || slave.write_all(all.as_bytes()).unwrap())
        .await
        .unwrap();
    relay.finish().await;
    let seen = reader.await.unwrap();
    assert!(seen.ends_with(&text), "{} of {} bytes", seen.len(), text.len());
}

#[tokio::test]
async fn a_process_gets_a_pipe_and_never_the_log_file_and_the_order_of_both_outputs_stays() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("new/a log");
    let uri = format!("file://{}", log.display()).replace(' ', "%20");
    let both = StreamNames {
        stderr: uri.clone(),
        ..names("", &uri)
    };
    for ends_with_process in [false, true] {
        let owner = StreamOwner {
            ends_with_process,
            ..first()
        };
        let (streams, relay) = opened(both.clone(), owner);
        let (mut stdout, mut stderr) = (File::from(streams.stdout), File::from(streams.stderr));
        for stream in [&stdout, &stderr] {
            let kind = stream.metadata().unwrap().file_type();
            assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind), "{kind:?}");
        }
        for number in 0..100 {
            writeln!(stdout, "{number}").unwrap();
            writeln!(stderr, "error {number}").unwrap();
        }
        drop((stdout, stderr));
        relay.finish().await;
        let expected: String = (0..100).map(|number| format!("{number}\nerror {number}\n")).collect();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), expected);
        std::fs::remove_file(&log).unwrap();
    }
}
