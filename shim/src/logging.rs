//! The shim's log: the `log` FIFO that containerd makes in the bundle and copies to its own log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;
use tracing::Level;

/// Sends the log of this process, and of those it forks, to `bundle/log`; without such a FIFO there is no log.
pub fn to_bundle(bundle: &Path, debug: bool) {
    // Open for both directions, so that the open does not wait for containerd and a containerd that goes
    // away does not break the pipe. Non-blocking, so that a full pipe costs a line and not the pod.
    let fifo = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(bundle.join("log"));
    let Ok(fifo) = fifo.map(Arc::new) else { return };
    let level = if debug { Level::DEBUG } else { Level::WARN };
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(level)
        .with_writer(move || Lossy(Arc::clone(&fifo)))
        .finish();
    // Fails only if the process logs already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Lossy(Arc<File>);

impl Write for Lossy {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.as_ref().write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(bytes.len()),
            other => other,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
