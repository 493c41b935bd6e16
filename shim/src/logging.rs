//! The shim's log: the `log` FIFO that containerd makes in the bundle and copies to its own log.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};

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
    // libcgroups warns, for each container anew, of every controller that the node lacks.
    let levels = Targets::new()
        .with_default(level)
        .with_target("libcgroups", Level::ERROR.min(level));
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || Lossy(Arc::clone(&fifo)));
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(levels));
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
