//! Logging programs: `binary:///path/to/program?key=value` as standard output.
//!
//! The program is started with the key and the value as arguments, `CONTAINER_ID` and `CONTAINER_NAMESPACE` as its
//! environment, the process's output and errors to read on descriptors 3 and 4, and says on descriptor 5 that it is
//! ready, by a byte or by closing it. Source: containerd `core/runtime/v2/README.md` ("Logging") and `pkg/process/io.go`.
//!
//! It is a child of the service, not of the zygote: it is no part of the container. It is executed at once, so that the
//! rule about forks in threaded processes (see the zygote) does not concern it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::uri::Program;
use crate::fault::{Fault, Result};

/// How long the program may take to say that it is ready.
const READY: Duration = Duration::from_secs(10);
/// How long it may take to end by itself once the output has ended.
const OWN_END: Duration = Duration::from_secs(2);
/// How long it may take to end when it is told to. Source: containerd `binaryIOProcTermTimeout`.
const TOLD_END: Duration = Duration::from_secs(12);
/// Descriptors that the program finds: output, errors, ready.
const PROGRAM_FDS: [RawFd; 3] = [3, 4, 5];
/// Lowest number of the descriptors before they become the program's, so that none of them is in another's place.
const OUT_OF_THE_WAY: RawFd = 16;

/// A running logging program; killed when dropped.
#[derive(Debug)]
pub struct Logger {
    child: Child,
    program: String,
    /// Tells that it is ready, until it has.
    ready: Option<OwnedFd>,
}

impl Logger {
    /// Starts the program; answers the ends to write to, once it is [`Logger::ready`]. Its file may be on a disk that
    /// hangs, so this is for a thread that may wait.
    pub fn start(program: &Program, namespace: &str, id: &str) -> Result<(Self, OwnedFd, OwnedFd)> {
        let name = program.path.display().to_string();
        let fault = |why: String| Fault::invalid(format!("logging program {}: {why}", name.escape_debug()));
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| fault(errno.to_string()));
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        let (ready, ready_end) = pipe()?;
        let mut ends = Vec::with_capacity(PROGRAM_FDS.len());
        for end in [&stdout, &stderr, &ready_end] {
            let copy =
                fcntl(end, FcntlArg::F_DUPFD_CLOEXEC(OUT_OF_THE_WAY)).map_err(|errno| fault(errno.to_string()))?;
            // SAFETY: the kernel has just made this descriptor for us.
            ends.push(unsafe { OwnedFd::from_raw_fd(copy) });
        }
        let mut command = Command::new(&program.path);
        command
            .args(&program.args)
            .env_clear()
            .env("CONTAINER_ID", id)
            .env("CONTAINER_NAMESPACE", namespace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let numbers: Vec<RawFd> = ends.iter().map(AsRawFd::as_raw_fd).collect();
        // SAFETY: between fork and exec only dup2 is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                for (from, to) in numbers.iter().zip(PROGRAM_FDS) {
                    if libc::dup2(*from, to) < 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn();
        drop((ends, stdout, stderr, ready_end));
        let child = child.map_err(|error| fault(format!("cannot be started: {error}")))?;
        let logger = Self {
            child,
            program: name,
            ready: Some(ready),
        };
        Ok((logger, stdout_end, stderr_end))
    }

    /// Waits until the program says that it takes output.
    pub async fn ready(&mut self) -> Result<()> {
        let Some(ready) = self.ready.take() else { return Ok(()) };
        let program = self.program.escape_debug().to_string();
        let fault = |why: String| Fault::internal(format!("logging program {program}: {why}"));
        let mut ready = pipe::Receiver::from_owned_fd(ready).map_err(|error| fault(error.to_string()))?;
        let mut byte = [0];
        match tokio::time::timeout(READY, ready.read(&mut byte)).await {
            Ok(Ok(1)) => Ok(()),
            // Closed: either it says so that it is ready, or it has ended.
            Ok(Ok(_)) => match self.child.try_wait() {
                Ok(Some(status)) => Err(fault(format!("it ended before it was ready: {status}"))),
                _ => Ok(()),
            },
            Ok(Err(error)) => Err(fault(error.to_string())),
            Err(_) => Err(fault(format!(
                "it did not say within {READY:?} that it is ready, by writing to or closing descriptor 5"
            ))),
        }
    }

    /// Waits for the program's end after that of the output; asks for it, and at last forces it.
    pub async fn end(mut self) {
        if tokio::time::timeout(OWN_END, self.child.wait()).await.is_ok() {
            return;
        }
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // Not reaped yet, so the id is still its own.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(TOLD_END, self.child.wait()).await.is_err() {
            tracing::warn!(program = self.program, "a logging program had to be killed");
            let _ = self.child.kill().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_gets_the_output_and_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("logger");
        let script = "#!/bin/sh\necho \"$CONTAINER_NAMESPACE $CONTAINER_ID $1 $2\" >\"$2\"\nexec 5>&-\ncat <&3 >>\"$2\"\ncat <&4 >>\"$2\"\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let log = dir.path().join("log");
        let program = Program {
            path: program,
            args: vec!["file".into(), log.clone().into()],
        };
        let (mut logger, stdout, stderr) = Logger::start(&program, "ns", "c1").unwrap();
        logger.ready().await.unwrap();
        nix::unistd::write(&stdout, b"out\n").unwrap();
        nix::unistd::write(&stderr, b"err\n").unwrap();
        drop((stdout, stderr));
        logger.end().await;
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(text, format!("ns c1 file {}\nout\nerr\n", log.display()));
    }

    #[tokio::test]
    async fn a_program_that_cannot_log_is_named() {
        let program = |path: &str| Program {
            path: path.into(),
            args: Vec::new(),
        };
        let fault = Logger::start(&program("/nonexistent/logger"), "ns", "c").unwrap_err();
        assert!(fault.message.contains("/nonexistent/logger"), "{fault}");
        let (mut logger, ..) = Logger::start(&program("/bin/false"), "ns", "c").unwrap();
        // Its end may come after its descriptors' end: then the first output finds nobody.
        if let Err(fault) = logger.ready().await {
            assert!(fault.message.contains("ended before"), "{fault}");
        }
    }
}
