//! A container's standard streams: the FIFOs that containerd made, or files, or nothing.
//!
//! Output goes straight from the container into the FIFO, without a copy in the shim. The shim keeps a
//! reading end open for as long as the container lives: while containerd is away there is still a reader, so
//! the container blocks on a full pipe instead of dying of SIGPIPE. Input is pumped, because the end of
//! input must reach the container both when the client closes its end and when it says CloseIO.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::fault::{Fault, Result};

/// What one pump moves at a time.
const CHUNK: usize = 8 * 1024;

/// The three streams as the container gets them.
#[derive(Debug)]
pub struct Streams {
    /// Descriptor 0.
    pub stdin: OwnedFd,
    /// Descriptor 1.
    pub stdout: OwnedFd,
    /// Descriptor 2.
    pub stderr: OwnedFd,
}

/// The shim's side of the streams; dropping it ends the pump and lets go of the FIFOs.
#[derive(Debug, Default)]
pub struct Held {
    _readers: Vec<File>,
    input: Option<watch::Sender<bool>>,
}

impl Held {
    /// Ends the container's input once what was sent has been read.
    pub fn close_input(&self) {
        if let Some(input) = &self.input {
            let _ = input.send(true);
        }
    }
}

/// Opens the streams that a Create request names; an empty name is `/dev/null`.
pub fn open(stdin: &str, stdout: &str, stderr: &str) -> Result<(Streams, Held)> {
    let mut held = Held::default();
    let stdin = match stdin {
        "" => null()?,
        path => {
            let (end, closer) = open_input(Path::new(path))?;
            held.input = Some(closer);
            end
        }
    };
    let stdout = open_output(stdout, &mut held)?;
    let stderr = open_output(stderr, &mut held)?;
    Ok((Streams { stdin, stdout, stderr }, held))
}

fn null() -> Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/null");
    Ok(file
        .map_err(|error| Fault::internal(format!("cannot open /dev/null: {error}")))?
        .into())
}

fn open_output(uri: &str, held: &mut Held) -> Result<OwnedFd> {
    if uri.is_empty() {
        return null();
    }
    let fault = |error: std::io::Error| Fault::invalid(format!("cannot open the container's output {uri}: {error}"));
    if let Some((scheme, rest)) = uri.split_once("://") {
        let path = match scheme {
            "fifo" => return open_fifo(Path::new(rest), held).map_err(fault),
            "file" => PathBuf::from(rest),
            other => {
                return Err(Fault::unimplemented(format!(
                    "log URIs of scheme \"{other}\" are not supported yet: use a FIFO or file://"
                )));
            }
        };
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        return Ok(file.map_err(fault)?.into());
    }
    open_fifo(Path::new(uri), held).map_err(fault)
}

/// Opens a FIFO for writing without waiting for its reader: the shim becomes one first.
fn open_fifo(path: &Path, held: &mut Held) -> std::io::Result<OwnedFd> {
    if !std::fs::metadata(path)?.file_type().is_fifo() {
        return Ok(OpenOptions::new().append(true).open(path)?.into());
    }
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let writer = OpenOptions::new().write(true).open(path)?;
    held._readers.push(reader);
    Ok(writer.into())
}

fn open_input(path: &Path) -> Result<(OwnedFd, watch::Sender<bool>)> {
    let fault = |error: std::io::Error| {
        Fault::invalid(format!("cannot open the container's input {}: {error}", path.display()))
    };
    let fifo = pipe::OpenOptions::new().open_receiver(path).map_err(fault)?;
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| fault(errno.into()))?;
    let (closer, closed) = watch::channel(false);
    tokio::spawn(pump(fifo, write, closed));
    Ok((read, closer))
}

/// Copies from the FIFO to the container's pipe until the writers are gone or CloseIO says so.
///
/// A FIFO that nobody has opened for writing yet is not at its end: the kernel reports readiness only once
/// there has been a writer, so waiting for it first tells "not yet" from "no more".
async fn pump(mut fifo: pipe::Receiver, write: OwnedFd, mut closed: watch::Receiver<bool>) {
    let Ok(mut sink) = pipe::Sender::from_owned_fd(write) else {
        return;
    };
    let mut buffer = vec![0u8; CHUNK];
    loop {
        let ready = tokio::select! {
            biased;
            ready = fifo.readable() => ready,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        if ready.is_err() {
            return;
        }
        match fifo.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                use tokio::io::AsyncWriteExt;
                if sink.write_all(&buffer[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::time::Duration;

    fn fifo(dir: &tempfile::TempDir, name: &str) -> String {
        let path = dir.path().join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn output_needs_no_reader_and_its_end_is_seen_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(&dir, "out");
        let (streams, _held) = open("", &path, "").unwrap();
        let mut stdout = File::from(streams.stdout);
        stdout.write_all(b"hello").unwrap();
        let mut reader = File::open(&path).unwrap();
        drop(stdout);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
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
    async fn input_waits_for_its_writer_and_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = fifo(&dir, "in");
        let (streams, _held) = open(&path, "", "").unwrap();
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
        let (streams, held) = open(&path, "", "").unwrap();
        let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
        writer.write_all(b"typed").unwrap();
        let reading = tokio::spawn(read_all(streams.stdin));
        tokio::time::sleep(Duration::from_millis(30)).await;
        held.close_input();
        assert_eq!(reading.await.unwrap(), "typed");
        drop(writer);
    }

    #[tokio::test]
    async fn an_unknown_log_scheme_is_named() {
        assert!(open("", "gopher://x", "").unwrap_err().message.contains("gopher"));
    }
}
