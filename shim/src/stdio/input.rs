//! Standard input: from containerd's FIFO to the process, until either side says that there is no more.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::OFlag;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::fault::{Fault, Result};

/// What one pump moves at a time.
const CHUNK: usize = 8 * 1024;

/// Opens the FIFO without waiting for its writer.
pub fn open(path: &Path) -> Result<pipe::Receiver> {
    pipe::OpenOptions::new()
        .open_receiver(path)
        .map_err(|error| Fault::invalid(format!("cannot open the input {}: {error}", path.display())))
}

/// The reading end of a pipe that gets what comes from `fifo`, and the means to end it.
pub fn pump_into_pipe(fifo: pipe::Receiver) -> Result<(OwnedFd, watch::Sender<bool>)> {
    let fault = |error: io::Error| Fault::internal(format!("cannot make a pipe for the input: {error}"));
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| fault(errno.into()))?;
    let sink = pipe::Sender::from_owned_fd(write).map_err(fault)?;
    let (closer, closed) = watch::channel(false);
    tokio::spawn(pump(fifo, closed, sink));
    Ok((read, closer))
}

/// Gives `sink` what comes from the FIFO until its writers are gone, CloseIO says so, or the sink fails; answers the sink.
///
/// A FIFO that nobody has opened for writing yet is not at its end: the kernel reports readiness only once
/// there has been a writer, so waiting for it first tells "not yet" from "no more".
pub async fn pump<W>(mut fifo: pipe::Receiver, mut closed: watch::Receiver<bool>, mut sink: W) -> W
where
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0u8; CHUNK];
    loop {
        let ready = tokio::select! {
            biased;
            ready = fifo.readable() => ready,
            _ = closed.wait_for(|closed| *closed) => return sink,
        };
        if ready.is_err() {
            return sink;
        }
        match fifo.read(&mut buffer).await {
            Ok(0) | Err(_) => return sink,
            Ok(length) => {
                if sink.write_all(&buffer[..length]).await.is_err() {
                    return sink;
                }
            }
        }
    }
}
