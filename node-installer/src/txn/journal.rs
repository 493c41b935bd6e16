//! The intent of an operation, on disk before its first change.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Change, Record, Role, State, store::FORMAT};

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// An installation or an upgrade.
    Install,
    /// The return to an earlier version of the shim.
    Rollback,
    /// The removal of everything.
    Uninstall,
}

/// How far it got. Files alone are judged by what they are; the phase tells about the daemon, which cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Files are being changed; the daemon knows nothing of it.
    Applying,
    /// The daemon may have been restarted with the changed files.
    Restarting,
    /// The daemon was restarted; the result is being verified.
    Verifying,
}

/// An operation under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Format of this journal.
    pub format: u32,
    /// The operation's own name: the record bears it once the operation is complete.
    pub id: String,
    /// What is being done.
    pub operation: Operation,
    /// Fingerprint of what the operation was to reach: a later run with the same one may continue it.
    pub target: String,
    /// How far it got.
    pub phase: Phase,
    /// How often it was continued after an interruption.
    pub resumed: u32,
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// CRI containers that ran before the restart.
    pub running: Vec<String>,
    /// The record after its completion; `None` after an uninstall.
    pub result: Option<Record>,
}

impl Journal {
    /// A new operation.
    pub fn new(operation: Operation, target: &str, changes: Vec<Change>, result: Option<Record>) -> Self {
        let mut journal = Self {
            format: FORMAT,
            id: new_id(),
            operation,
            target: target.to_owned(),
            phase: Phase::Applying,
            resumed: 0,
            changes,
            running: Vec::new(),
            result,
        };
        if let Some(record) = &mut journal.result {
            record.id.clone_from(&journal.id);
        }
        journal
    }

    /// Whether containerd reads its configuration differently after this operation.
    pub fn changes_config(&self) -> bool {
        let config = |change: &Change| change.role == Role::Config && change.after != State::Dir;
        self.changes
            .iter()
            .any(|change| config(change) && change.before != change.after)
    }
}

/// Time and process: unique on one host, where one installer runs at a time.
fn new_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}
