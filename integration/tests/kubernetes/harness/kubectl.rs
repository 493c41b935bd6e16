//! Running `kubectl`, and looking again until a deadline.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tandem_integration::{Error, Result};

/// What follows at once from what was done, on a machine that has other things to do too.
pub const SOON: Duration = Duration::from_secs(60);
/// Whatever has pods to start, an image to pull, or a module of megabytes to compile.
pub const LONG: Duration = Duration::from_secs(480);

/// What a program printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The command line, for messages.
    pub command: String,
    /// Its exit code, -1 where a signal ended it.
    pub code: i32,
    /// Its output.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Answer {
    /// The output of a program that must have succeeded.
    ///
    /// # Errors
    /// Where it has not.
    pub fn success(self) -> Result<String> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        Err(Error::Setup(self.to_string()))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            command,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`{command}` ended with {code}: {} {}",
            stdout.trim_end(),
            stderr.trim_end()
        )
    }
}

/// Runs a program to its end, with `input` as its standard input.
///
/// # Errors
/// Where it cannot be run.
pub fn run(command: &mut Command, input: Option<&[u8]>) -> Result<Answer> {
    let line = line(command);
    let failed = |cause| Error::system("cannot run", &line)(cause);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().map_err(failed)?;
    let writer = child
        .stdin
        .take()
        .zip(input.map(<[u8]>::to_vec))
        .map(|(mut pipe, input)| {
            // One that ends early does not want it.
            thread::spawn(move || drop(pipe.write_all(&input)))
        });
    let output = child
        .wait_with_output()
        .map_err(|cause| Error::system("cannot run", &line)(cause))?;
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    Ok(Answer {
        command: line,
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The command line of a command, as one would type it.
pub fn line(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let mut line = program.rsplit('/').next().unwrap_or_default().to_owned();
    for arg in command.get_args() {
        // Writing into a string does not fail.
        let _ = write!(line, " {}", arg.to_string_lossy());
    }
    line
}

/// Asks `probe` until it answers `Some`, at most `limit`; `what` names in the error what did not happen.
///
/// # Errors
/// The probe's, or [`Error::Deadline`].
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    // Every look is a process, and the machine is busy with pods: what takes long is looked at less often.
    let mut pause = Duration::from_millis(200);
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if began.elapsed() > limit {
            return Err(Error::Deadline {
                what: what.to_owned(),
                after: limit,
            });
        }
        thread::sleep(pause);
        pause = (pause * 5 / 4).min(Duration::from_secs(1));
    }
}
