//! Between being ready and running. A container's first process says that it is ready, waits until it is started, and runs
//! the `startContainer` hooks. An executed process says that it is ready, too, and runs at once: that its line closes without
//! another word tells that it does.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci_spec::runtime::Hook;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Named, Result};
use crate::hooks::{self, State};
use crate::line::{Line, Message};
use crate::program::gone;

/// What a first process does when it is started, before it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Waiting {
    hooks: Vec<Hook>,
    state: State,
}

impl Waiting {
    /// To run these hooks with this state.
    pub fn new(hooks: Option<&Vec<Hook>>, state: State) -> Self {
        Self {
            hooks: hooks.cloned().unwrap_or_default(),
            state,
        }
    }
}

/// The gate of one process.
#[derive(Debug)]
pub struct Gate {
    line: Option<Line>,
    /// Of a first process: where the byte comes that starts it.
    start: Option<(OwnedFd, Waiting)>,
}

impl Gate {
    /// Of a container's first process.
    pub fn of_first(line: Line, start: OwnedFd, waiting: Waiting) -> Self {
        Self {
            line: Some(line),
            start: Some((start, waiting)),
        }
    }

    /// Of a process that is executed in a container.
    pub fn of_executed(line: Line) -> Self {
        Self {
            line: Some(line),
            start: None,
        }
    }

    /// The line to the runtime, while the process gets ready.
    pub fn line(&self) -> Result<&Line> {
        self.line.as_ref().ok_or_else(gone)
    }

    /// What another program needs to go on from here.
    pub fn parts(&self) -> Result<(&Line, Option<(BorrowedFd<'_>, Waiting)>)> {
        let start = self
            .start
            .as_ref()
            .map(|(start, waiting)| (start.as_fd(), waiting.clone()));
        Ok((self.line()?, start))
    }

    /// Says that the process is ready, and waits until it may run.
    pub fn open(&mut self) -> Result<()> {
        let Some((start, waiting)) = self.start.take() else {
            return self.line()?.send(&Message::Ready, &[]);
        };
        if let Some(line) = self.line.take() {
            line.send(&Message::Ready, &[])?;
        }
        let mut byte = [0];
        match File::from(start).read_exact(&mut byte) {
            Ok(()) => hooks::run("startContainer", Some(&waiting.hooks), &waiting.state),
            // Whoever could have started it is gone, and so is whoever could have been told.
            Err(_) => std::process::exit(1),
        }
    }

    /// Tells that an executed process runs. An execve tells it too.
    pub fn pass(self) {}

    /// Tells why the process cannot run, if there is still somebody to tell.
    pub fn fail(&self, error: &Error) -> bool {
        let told = |line: &Line| line.send(&Message::Failed(error.clone()), &[]);
        self.line.as_ref().map(told).is_some_and(|told| told.is_ok())
    }
}

/// Makes the pipe by which a process is started: the end that waits, and the end that starts.
pub fn starter() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).host(|| "make a pipe".into())
}
