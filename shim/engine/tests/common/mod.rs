//! What the tests of this crate share: guests, and the process that runs one.

#![allow(dead_code, reason = "each test binary uses its own part of what they share")]

pub mod guests;
pub mod server;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Long enough for the slowest machine, short enough to fail before a person gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// `examples/run-guest`, which cargo builds before it runs tests.
pub fn run_guest() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/run-guest");
    assert!(
        path.exists(),
        "{} is missing: run the tests with `cargo test`, which builds it",
        path.display()
    );
    path
}

/// A guest's file, and the command that runs it.
pub struct Guest {
    pub dir: TempDir,
    pub command: Command,
}

impl Guest {
    /// Of text in WAT format or bytes in Wasm's own, with options for `run-guest` and arguments for the guest.
    pub fn new(wasm: impl AsRef<[u8]>, options: &[&str]) -> Self {
        Self::with_args(wasm, options, &[])
    }

    pub fn with_args(wasm: impl AsRef<[u8]>, options: &[&str], args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("guest.wasm");
        std::fs::write(&file, wasm).unwrap();
        let mut command = Command::new(run_guest());
        command.args(options).arg(&file).args(args).stdin(Stdio::null());
        Self { dir, command }
    }

    /// With a new directory as its root.
    pub fn rooted(wasm: impl AsRef<[u8]>, fill: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        fill(&root);
        let file = dir.path().join("guest.wasm");
        std::fs::write(&file, wasm).unwrap();
        let mut command = Command::new(run_guest());
        command.arg("--root").arg(&root).arg(&file).stdin(Stdio::null());
        Self { dir, command }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Runs to the end: exit code, stdout, stderr.
    pub fn output(&mut self) -> (i32, String, String) {
        let output = self.command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Starts it; its stdout can be waited for.
    pub fn start(mut self) -> Started {
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Started {
            child,
            stdout,
            guest: self,
        }
    }
}

/// A guest that runs; killed when dropped.
pub struct Started {
    pub child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    pub guest: Guest,
}

impl Started {
    /// The next line that the guest prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    pub fn signal(&self, signal: i32) {
        send(self.child.id(), signal);
    }

    /// Waits for its end: exit code, the rest of stderr, and how long it took.
    pub fn wait(&mut self) -> (i32, String, Duration) {
        let start = Instant::now();
        let status = wait(&mut self.child);
        let took = start.elapsed();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status.code().unwrap_or(-1), stderr, took)
    }

    pub fn rest_of_stdout(&mut self) -> String {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn send(pid: u32, signal: i32) {
    // SAFETY: kill takes no pointer.
    let result = unsafe { libc::kill(pid.cast_signed(), signal) };
    assert_eq!(result, 0, "kill {pid}: {}", std::io::Error::last_os_error());
}

fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "the guest does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `done` is true.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come about in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}
