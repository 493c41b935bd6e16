//! Standard output and error: what containerd names, opened, and the copy into it where there has to be one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use crate::fault::{Fault, Result};

/// What one copy moves at a time: as much as a pipe holds.
const CHUNK: usize = 64 * 1024;

/// An output, opened for writing.
#[derive(Debug)]
pub enum Output {
    /// Nobody wants it.
    Nothing,
    /// A log.
    File(File),
    /// A FIFO or pipe that somebody reads.
    Pipe(OwnedFd),
}

/// An output that the shim itself writes to.
#[derive(Debug)]
pub enum Sink {
    /// Nobody wants it.
    Nothing,
    /// A log.
    File(tokio::fs::File),
    /// A FIFO or pipe that somebody reads.
    Pipe(pipe::Sender),
}

impl Output {
    /// The descriptor for a process.
    pub fn into_fd(self) -> Result<OwnedFd> {
        match self {
            Output::Nothing => super::null(),
            Output::File(file) => Ok(file.into()),
            Output::Pipe(fd) => Ok(fd),
        }
    }

    /// To be written by the shim.
    pub fn into_sink(self) -> Result<Sink> {
        Ok(match self {
            Output::Nothing => Sink::Nothing,
            Output::File(file) => Sink::File(tokio::fs::File::from_std(file)),
            Output::Pipe(fd) => Sink::Pipe(
                pipe::Sender::from_owned_fd(fd)
                    .map_err(|error| Fault::internal(format!("cannot write to the output: {error}")))?,
            ),
        })
    }
}

impl Sink {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Sink::Nothing => Ok(()),
            // Flushed, because tokio's files write in the background.
            Sink::File(file) => {
                file.write_all(bytes).await?;
                file.flush().await
            }
            Sink::Pipe(pipe) => pipe.write_all(bytes).await,
        }
    }
}

/// Opens the output that containerd calls `uri`; the reading end of a FIFO goes into `readers`.
pub fn open(uri: &str, readers: &mut Vec<File>) -> Result<Output> {
    if uri.is_empty() {
        return Ok(Output::Nothing);
    }
    let fault = |error: io::Error| Fault::invalid(format!("cannot open the output {uri}: {error}"));
    let Some((scheme, rest)) = uri.split_once("://") else {
        return open_fifo(Path::new(uri), readers).map_err(fault);
    };
    match scheme {
        "fifo" => open_fifo(Path::new(rest), readers).map_err(fault),
        "file" => {
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(rest);
            Ok(Output::File(file.map_err(fault)?))
        }
        "binary" => Err(Fault::invalid(format!(
            "{uri}: a logging program takes both outputs and is named as standard output"
        ))),
        other => Err(Fault::invalid(format!(
            "log URIs of scheme \"{}\" are not known: use a FIFO, file:// or binary://",
            other.escape_debug()
        ))),
    }
}

/// Opens a FIFO for writing without waiting for its reader: the shim becomes one first.
fn open_fifo(path: &Path, readers: &mut Vec<File>) -> io::Result<Output> {
    if !std::fs::metadata(path)?.file_type().is_fifo() {
        return Ok(Output::File(OpenOptions::new().append(true).open(path)?));
    }
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let writer = OpenOptions::new().write(true).open(path)?;
    readers.push(reader);
    Ok(Output::Pipe(writer.into()))
}

/// Copies until the source ends. Where the sink fails (a full disk, a logging program that ended), what comes is thrown
/// away, so that the process is not held up by its log.
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
