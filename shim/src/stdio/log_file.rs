//! Log files. A container's process gets a pipe and not the file, of which it could undo the append mode, cut off what
//! others have written, or change the owner and the mode. A thread copies from the pipe, so that a disk that hangs keeps
//! nobody but this log.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;

/// What is copied at a time: as much as a pipe holds.
const CHUNK: usize = 64 * 1024;
/// Of the directories that are made for a log, and of the log. Source: containerd `process/io.go`.
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// A log that is being written. When it is dropped, what the pipe holds is written and the thread ends.
#[derive(Debug)]
pub struct LogFile {
    /// Closed to end the thread although somebody may still write.
    _stop: OwnedFd,
    written: oneshot::Receiver<()>,
}

/// Opens a log, and makes it and its directories where they are missing.
pub fn open(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(dir)?;
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(FILE_MODE);
    options.open(path)
}

impl LogFile {
    /// Starts to write what comes into the returned end of a pipe.
    pub fn start(file: File) -> io::Result<(OwnedFd, Self)> {
        let (source, end) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (stopped, stop) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (done, written) = oneshot::channel();
        std::thread::Builder::new().spawn(move || {
            copy(source.into(), &stopped, file);
            let _ = done.send(());
        })?;
        Ok((end, Self { _stop: stop, written }))
    }

    /// Returns when every writer has closed the pipe and everything is in the file.
    pub async fn written(&mut self) {
        let _ = (&mut self.written).await;
    }
}

/// Copies until the source ends, or is empty after the stop. Where the file fails (a full disk), what comes is thrown
/// away, so that the process is not held up by its log.
fn copy(mut source: File, stopped: &OwnedFd, file: File) {
    let mut file = Some(file);
    let mut buffer = vec![0u8; CHUNK];
    // What the pipe can hold at the stop; what comes later is nobody's.
    let mut left = CHUNK;
    loop {
        let mut fds = [
            PollFd::new(source.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        }
        let (readable, stopping) = (fds[0].any().unwrap_or(true), fds[1].any().unwrap_or(true));
        if !readable || left == 0 {
            return;
        }
        match source.read(&mut buffer) {
            Ok(0) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
            Ok(length) => {
                if stopping {
                    left = left.saturating_sub(length);
                }
                if let Some(Err(error)) = file.as_mut().map(|file| file.write_all(&buffer[..length])) {
                    tracing::warn!(%error, "output of a process is lost from here on");
                    file = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_log_and_its_directories_are_made_and_added_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/log");
        for line in ["one\n", "two\n"] {
            let (end, mut log) = LogFile::start(open(&path).unwrap()).unwrap();
            File::from(end).write_all(line.as_bytes()).unwrap();
            log.written().await;
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        // As far as the umask of who runs this test lets it.
        assert_eq!(mode(&path) | 0o022, FILE_MODE | 0o022);
        assert_eq!(mode(path.parent().unwrap()) | 0o022, DIRECTORY_MODE | 0o022);
    }

    #[tokio::test]
    async fn a_log_that_is_dropped_has_what_was_written_though_a_writer_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (end, log) = LogFile::start(open(&path).unwrap()).unwrap();
        let mut writer = File::from(end);
        writer.write_all(b"last words").unwrap();
        drop(log);
        let mut seen = String::new();
        for _ in 0..1000 {
            seen = std::fs::read_to_string(&path).unwrap();
            // The pipe has lost its reader once the thread has ended.
            if writer.write_all(b"").is_ok() && seen == "last words" {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(seen, "last words");
    }

    #[tokio::test]
    async fn a_full_disk_does_not_hold_up_the_process() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (end, mut log) = LogFile::start(full).unwrap();
        let mut writer = File::from(end);
        // More than the pipe holds: without a reader this would wait for ever.
        writer.write_all(&vec![b'x'; 4 * CHUNK]).unwrap();
        drop(writer);
        log.written().await;
    }
}
