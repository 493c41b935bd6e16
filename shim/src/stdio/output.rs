//! Standard output and error: what containerd names, opened, and the copy into it where there has to be one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::Relay;
use super::log_file::{self, LogFile};
use super::uri::Destination;
use crate::fault::{Fault, Result};

/// What one copy moves at a time: as much as a pipe holds.
const CHUNK: usize = 64 * 1024;

/// An output, opened for writing.
#[derive(Debug)]
pub enum Output {
    /// Nobody wants it.
    Nothing,
    /// A FIFO or pipe that somebody reads.
    Pipe(OwnedFd),
}

/// An output that the shim itself writes to.
#[derive(Debug)]
pub enum Sink {
    /// Nobody wants it.
    Nothing,
    /// A FIFO or pipe that somebody reads.
    Pipe(pipe::Sender),
}

impl Output {
    /// The descriptor for a process.
    pub fn into_fd(self) -> Result<OwnedFd> {
        match self {
            Output::Nothing => super::null(),
            Output::Pipe(fd) => Ok(fd),
        }
    }

    /// To be written by the shim.
    pub fn into_sink(self) -> Result<Sink> {
        Ok(match self {
            Output::Nothing => Sink::Nothing,
            Output::Pipe(fd) => Sink::Pipe(
                pipe::Sender::from_owned_fd(fd)
                    .map_err(|error| Fault::internal(format!("cannot write to the output: {error}")))?,
            ),
        })
    }

    /// The same output once more.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(match self {
            Output::Nothing => Output::Nothing,
            Output::Pipe(fd) => Output::Pipe(
                fd.try_clone()
                    .map_err(|error| Fault::exhausted(format!("cannot share an output: {error}")))?,
            ),
        })
    }
}

impl Sink {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sink::Nothing => Ok(()),
            Sink::Pipe(pipe) => pipe.write_all(bytes).await,
        }
    }
}

/// Opens the output that containerd calls `uri`; what the shim has to do for it goes into `relay`.
pub fn open(uri: &str, relay: &mut Relay) -> Result<Output> {
    let fault = |error: io::Error| Fault::invalid(format!("cannot open the output {}: {error}", uri.escape_debug()));
    match Destination::parse(uri)? {
        Destination::Nowhere => Ok(Output::Nothing),
        Destination::Fifo(path) => open_fifo(&path, relay).map_err(fault),
        Destination::File(path) => log_file::open(&path)
            .and_then(|file| write_to(file, relay))
            .map_err(fault),
        Destination::Program(_) => Err(Fault::invalid(format!(
            "{}: a logging program takes both outputs and is named as standard output",
            uri.escape_debug()
        ))),
    }
}

/// Opens a FIFO for writing without waiting for its reader: the shim becomes one first.
fn open_fifo(path: &Path, relay: &mut Relay) -> io::Result<Output> {
    if !std::fs::metadata(path)?.file_type().is_fifo() {
        return write_to(OpenOptions::new().append(true).open(path)?, relay);
    }
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let writer = OpenOptions::new().write(true).open(path)?;
    relay.readers.push(reader);
    Ok(Output::Pipe(writer.into()))
}

fn write_to(file: File, relay: &mut Relay) -> io::Result<Output> {
    let (end, log) = LogFile::start(file)?;
    relay.logs.push(log);
    Ok(Output::Pipe(end))
}

/// Copies until the source ends. Where the sink fails (a client that went away, a logging program that ended), what
/// comes is thrown away, so that the process is not held up by its log.
pub async fn copy(mut source: impl AsyncRead + Unpin, mut sink: Sink) {
    let mut buffer = vec![0u8; CHUNK];
    loop {
        match source.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if let Err(error) = sink.write_all(&buffer[..length]).await {
                    tracing::warn!(%error, "output of a process is lost from here on");
                    sink = Sink::Nothing;
                }
            }
        }
    }
}
