//! Logging programs: `binary:///path/to/program?key=value` as standard output.
//!
//! The program is started with the key and the value as arguments, `CONTAINER_ID` and `CONTAINER_NAMESPACE` as its
//! environment, the process's output and errors to read on descriptors 3 and 4, and says on descriptor 5 that it is
//! ready, by a byte or by closing it. Source: containerd `core/runtime/v2/README.md` ("Logging") and `pkg/process/io.go`.
//!
//! It is a child of the service, not of the zygote: it is no part of the container. It is executed at once, so that the
//! rule about forks in threaded processes (see the zygote) does not concern it.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

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
}

impl Logger {
    /// Starts the program of `uri` (without its scheme) and waits until it is ready; answers the ends to write to.
    pub async fn start(uri: &str, namespace: &str, id: &str) -> Result<(Self, OwnedFd, OwnedFd)> {
        let (program, args) = parse(uri)?;
        let fault = |why: String| Fault::invalid(format!("logging program {program}: {why}"));
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| fault(errno.to_string()));
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        let (ready, ready_end) = pipe()?;
        let mut ends = Vec::with_capacity(PROGRAM_FDS.len());
        for end in [&stdout, &stderr, &ready_end] {
            let moved = fcntl(end, FcntlArg::F_DUPFD_CLOEXEC(OUT_OF_THE_WAY));
            ends.push(moved.map_err(|errno| fault(errno.to_string()))?);
        }
        let mut command = Command::new(&program);
        command
            .args(args)
            .env_clear()
            .env("CONTAINER_ID", id)
            .env("CONTAINER_NAMESPACE", namespace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let numbers = ends.clone();
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
        let spawned = command.spawn();
        for end in ends {
            // SAFETY: these copies were made above and nobody else knows them.
            unsafe { libc::close(end) };
        }
        drop((stdout, stderr, ready_end));
        let child = spawned.map_err(|error| fault(format!("cannot be started: {error}")))?;
        let mut logger = Self { child, program };
        logger.wait_ready(ready).await?;
        Ok((logger, stdout_end, stderr_end))
    }

    async fn wait_ready(&mut self, ready: OwnedFd) -> Result<()> {
        let program = self.program.clone();
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

/// Program and arguments: the query's keys and values in their order.
fn parse(uri: &str) -> Result<(String, Vec<String>)> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let program = decode(path);
    if !Path::new(&program).is_absolute() {
        return Err(Fault::invalid(format!(
            "binary://{}: a logging program is named by its absolute path (binary:///path/to/program)",
            uri.escape_debug()
        )));
    }
    let mut args = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        args.push(decode(&key.replace('+', " ")));
        args.push(decode(&value.replace('+', " ")));
    }
    Ok((program, args))
}

/// Undoes percent-encoding; what is not an encoding stays as it is. Source: RFC 3986, section 2.1.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = (first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_arguments_in_its_order() {
        let (program, args) = parse("/usr/bin/log%20it?--dir=/var/log/a%2Bb&id=1+2&flag").unwrap();
        assert_eq!(program, "/usr/bin/log it");
        assert_eq!(args, ["--dir", "/var/log/a+b", "id", "1 2", "flag", ""]);
        assert_eq!(decode("100%"), "100%");
        assert!(parse("relative").unwrap_err().message.contains("absolute"));
    }

    #[tokio::test]
    async fn a_program_gets_the_output_and_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("logger");
        let script = "#!/bin/sh\necho \"$CONTAINER_NAMESPACE $CONTAINER_ID $1 $2\" >\"$2\"\nexec 5>&-\ncat <&3 >>\"$2\"\ncat <&4 >>\"$2\"\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let log = dir.path().join("log");
        let uri = format!("{}?file={}", program.display(), log.display());
        let (logger, stdout, stderr) = Logger::start(&uri, "ns", "c1").await.unwrap();
        nix::unistd::write(&stdout, b"out\n").unwrap();
        nix::unistd::write(&stderr, b"err\n").unwrap();
        drop((stdout, stderr));
        logger.end().await;
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(text, format!("ns c1 file {}\nout\nerr\n", log.display()));
    }

    #[tokio::test]
    async fn a_program_that_cannot_log_is_named() {
        let fault = Logger::start("/nonexistent/logger", "ns", "c").await.unwrap_err();
        assert!(fault.message.contains("/nonexistent/logger"), "{fault}");
        let fault = Logger::start("/bin/false", "ns", "c").await;
        // Its end may come after its descriptors' end: then the first output finds nobody.
        if let Err(fault) = fault {
            assert!(fault.message.contains("ended before"), "{fault}");
        }
    }
}
