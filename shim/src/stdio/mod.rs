//! A process's standard streams: the FIFOs that containerd made, files, a logging program, a terminal, or nothing.
//!
//! Output of a container's first process goes straight into the FIFO, without a copy in the shim. The shim keeps a
//! reading end open for as long as the process lives: while containerd is away there is still a reader, so the
//! process blocks on a full pipe instead of dying of SIGPIPE. Three outputs are copied: a terminal's, which has no other
//! way out; that of a process that was executed in a container, whose own children may keep its output open for ever, while
//! what the client reads must end with the process it asked for; and what goes into a file, which no container may hold.
//!
//! Input is pumped, because the end of input must reach the process both when the client closes its end and when it
//! says CloseIO.

mod input;
mod log_file;
mod logger;
mod output;
mod terminal;
mod uri;

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::Uid;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fault::{Fault, Result};
use log_file::LogFile;
use logger::Logger;
use output::{Output, copy};
use terminal::Console;
pub use terminal::Size;
use uri::Destination;

/// How long the last output of a process that has ended may take to be read, before the client sees its end without it.
/// Source: containerd's runc shim waits as long.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// What the streams of a process are, as containerd names them.
#[derive(Debug, Clone, Default)]
pub struct StreamNames {
    /// FIFO that input comes from; empty for none.
    pub stdin: String,
    /// FIFO or URI for output; empty for none.
    pub stdout: String,
    /// FIFO or URI for errors; empty for none, and with a terminal.
    pub stderr: String,
    /// Whether the process has a terminal for all three.
    pub terminal: bool,
}

/// The process that the streams are for.
#[derive(Debug, Clone)]
pub struct StreamOwner {
    /// containerd namespace, for a logging program.
    pub namespace: Arc<str>,
    /// Id of the container or of the executed process, for a logging program.
    pub id: String,
    /// User of the process: it must be able to open `/dev/stdout` anew, which is then its own.
    pub uid: u32,
    /// Whether the output ends with the process, whoever else holds it.
    pub ends_with_process: bool,
}

/// The three streams as the process gets them.
#[derive(Debug)]
pub struct Streams {
    /// Descriptor 0.
    pub stdin: OwnedFd,
    /// Descriptor 1.
    pub stdout: OwnedFd,
    /// Descriptor 2.
    pub stderr: OwnedFd,
}

/// The shim's side of the streams; dropping it ends what the shim does for them and lets go of the FIFOs.
#[derive(Debug, Default)]
pub struct Relay {
    readers: Vec<File>,
    input: Option<watch::Sender<bool>>,
    copies: Vec<JoinHandle<()>>,
    logs: Vec<LogFile>,
    logger: Option<Logger>,
    console: Option<Console>,
}

impl Relay {
    /// Waits until the logging program, where there is one, says that it takes output.
    pub async fn ready(&mut self) -> Result<()> {
        match &mut self.logger {
            Some(logger) => logger.ready().await,
            None => Ok(()),
        }
    }

    /// Ends the process's input once what was sent has been read.
    pub fn close_input(&self) {
        if let Some(input) = &self.input {
            let _ = input.send(true);
        }
    }

    /// Connects the terminal that the process has got to the streams that containerd named.
    pub fn connect(&mut self, master: OwnedFd) -> Result<()> {
        let Some(console) = &mut self.console else {
            return Err(Fault::internal("a terminal came for a process that has none"));
        };
        let connected = console
            .connect(master)
            .map_err(|error| Fault::internal(format!("cannot use the terminal: {error}")))?;
        self.copies.extend(connected.output);
        self.input = connected.input;
        Ok(())
    }

    /// Changes the terminal's size. Without a terminal there is none to change, which is no error.
    pub fn resize(&self, size: Size) -> Result<()> {
        match &self.console {
            Some(console) => console.resize(size),
            None => Ok(()),
        }
    }

    /// Lets the last output out, after the process has ended, then lets go of everything.
    pub async fn finish(mut self) {
        let copies = std::mem::take(&mut self.copies);
        let deadline = tokio::time::Instant::now() + LAST_OUTPUT;
        for copy in copies {
            let abort = copy.abort_handle();
            if tokio::time::timeout_at(deadline, copy).await.is_err() {
                abort.abort();
            }
        }
        for log in &mut self.logs {
            let _ = tokio::time::timeout_at(deadline, log.written()).await;
        }
        if let Some(logger) = self.logger.take() {
            logger.end().await;
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for copy in &self.copies {
            copy.abort();
        }
    }
}

/// Opens what `names` says, for a process that is to be made. What is opened may be on a disk that hangs, so this is for
/// a thread that may wait; it needs the runtime at hand. A process with a terminal gets no streams here: see
/// [`Relay::connect`]. The output is to be used after [`Relay::ready`].
pub fn open(names: &StreamNames, owner: &StreamOwner) -> Result<(Option<Streams>, Relay)> {
    let mut relay = Relay::default();
    let outputs = Outputs::open(names, owner, &mut relay)?;
    let stdin = match names.stdin.as_str() {
        "" => None,
        path => Some(input::open(Path::new(path))?),
    };
    if names.terminal {
        relay.console = Some(Console::new(stdin, outputs.stdout.into_sink()?));
        return Ok((None, relay));
    }
    let stdin = match stdin {
        None => null()?,
        Some(fifo) => {
            let (end, closer) = input::pump_into_pipe(fifo)?;
            relay.input = Some(closer);
            end
        }
    };
    let (stdout, stderr) = outputs.into_fds(owner.ends_with_process, &mut relay)?;
    for stream in [&stdin, &stdout, &stderr] {
        give(stream, owner.uid);
    }
    Ok((Some(Streams { stdin, stdout, stderr }), relay))
}

/// The two outputs, opened.
struct Outputs {
    stdout: Output,
    /// None where it goes where standard output goes: through one pipe, so that the order stays.
    stderr: Option<Output>,
}

impl Outputs {
    fn open(names: &StreamNames, owner: &StreamOwner, relay: &mut Relay) -> Result<Self> {
        if let Destination::Program(program) = Destination::parse(&names.stdout)? {
            let (logger, stdout, stderr) = Logger::start(&program, &owner.namespace, &owner.id)?;
            relay.logger = Some(logger);
            return Ok(Self {
                stdout: Output::Pipe(stdout),
                stderr: Some(Output::Pipe(stderr)),
            });
        }
        let stdout = output::open(&names.stdout, relay)?;
        let stderr = match names.terminal {
            true => Some(Output::Nothing),
            false if names.stderr == names.stdout => None,
            false => Some(output::open(&names.stderr, relay)?),
        };
        Ok(Self { stdout, stderr })
    }

    fn into_fds(self, ends_with_process: bool, relay: &mut Relay) -> Result<(OwnedFd, OwnedFd)> {
        let mut finished = |output| match ends_with_process {
            true => copied(output, relay),
            false => Ok(output),
        };
        let stdout = finished(self.stdout)?;
        let stderr = match self.stderr {
            Some(stderr) => finished(stderr)?,
            None => stdout.try_clone()?,
        };
        Ok((stdout.into_fd()?, stderr.into_fd()?))
    }
}

/// Puts a pipe and a copy of the shim's between the process and an output that somebody reads.
fn copied(output: Output, relay: &mut Relay) -> Result<Output> {
    let Output::Pipe(_) = &output else {
        return Ok(output);
    };
    let fault = |error: std::io::Error| Fault::internal(format!("cannot make a pipe: {error}"));
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| fault(errno.into()))?;
    let source = tokio::net::unix::pipe::Receiver::from_owned_fd(read).map_err(fault)?;
    relay.copies.push(tokio::spawn(copy(source, output.into_sink()?)));
    Ok(Output::Pipe(write))
}

/// Makes a pipe the user's own, so that opening `/dev/stdout` or `/proc/self/fd/1` anew succeeds. Other files stay
/// what they are: `/dev/null` is everybody's and a log its owner's.
fn give(stream: &OwnedFd, uid: u32) {
    let pipe = |stat: nix::sys::stat::FileStat| {
        nix::sys::stat::SFlag::from_bits_truncate(stat.st_mode) & nix::sys::stat::SFlag::S_IFMT
            == nix::sys::stat::SFlag::S_IFIFO
    };
    if uid != 0 && nix::sys::stat::fstat(stream.as_fd()).is_ok_and(pipe) {
        // Where it fails, the stream still works; only a second opening of it does not.
        let _ = nix::unistd::fchown(stream.as_fd(), Some(Uid::from_raw(uid)), None);
    }
}

fn null() -> Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/null");
    Ok(file
        .map_err(|error| Fault::internal(format!("cannot open /dev/null: {error}")))?
        .into())
}

#[cfg(test)]
mod tests;
