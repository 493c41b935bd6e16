//! One process that containerd knows: the first of a container, or one that was executed in it. Both have streams, a
//! status that calls wait for, and an end.

use tokio::sync::watch;

use super::container::Status;
use crate::stdio::{Relay, StreamNames};

/// A process.
#[derive(Debug)]
pub struct Process {
    /// Names of the streams, as State reports them back.
    pub names: StreamNames,
    /// The shim's side of the streams.
    pub relay: Relay,
    status: watch::Sender<Status>,
}

impl Process {
    /// One that is not there yet.
    pub fn new(names: StreamNames) -> Self {
        Self {
            names,
            relay: Relay::default(),
            status: watch::Sender::new(Status::Creating),
        }
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Moves on; those who wait for the end are told.
    pub fn set_status(&self, status: Status) {
        self.status.send_replace(status);
    }

    /// To wait for a status without holding the process.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Its pid, while it is there.
    pub fn living_pid(&self) -> Option<i32> {
        match self.status() {
            Status::Created { pid } | Status::Running { pid } => Some(pid),
            Status::Creating | Status::Stopped { .. } => None,
        }
    }
}

/// A process that is executed in a container: registered by Exec, there from Start on.
#[derive(Debug)]
pub struct Exec {
    /// What it has in common with a first process.
    pub process: Process,
    /// The OCI process section, checked, as JSON.
    pub spec: Vec<u8>,
    /// How far its Start is.
    pub start: ExecStart,
}

/// How far the Start of an exec is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecStart {
    /// Nobody has asked for it, or it failed.
    NotAsked,
    /// Its files are opened, which may take as long as a disk hangs. Its container's end does not wait for it.
    Preparing,
    /// The zygote is at it: it may have a process of which nobody has told yet.
    HandedOver,
    /// It has, or had, a process.
    Done,
}

impl Exec {
    /// One that waits for Start.
    pub fn new(names: StreamNames, spec: Vec<u8>) -> Self {
        Self {
            process: Process::new(names),
            spec,
            start: ExecStart::NotAsked,
        }
    }
}
