//! The intent of an operation, on disk before its first change.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Change, FORMAT, Record, changes_config};

/// Which command changes the host.
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
    /// When they were listed, in nanoseconds since 1970. A journal of an earlier version does not say; whatever ran
    /// then and has ended since ended after 1970, too.
    #[serde(default)]
    pub running_at: i64,
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
            running_at: 0,
            result,
        };
        if let Some(record) = &mut journal.result {
            record.id.clone_from(&journal.id);
        }
        journal
    }

    /// Whether containerd reads its configuration differently after this operation.
    pub fn changes_config(&self) -> bool {
        changes_config(&self.changes)
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Install => "install",
            Self::Rollback => "rollback",
            Self::Uninstall => "uninstall",
        })
    }
}

/// Time and process: unique on one host, where one installer runs at a time.
fn new_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_of_an_earlier_version_is_read() {
        let journal = Journal::new(Operation::Install, "t", Vec::new(), None);
        let mut value = serde_json::to_value(&journal).unwrap();
        value.as_object_mut().unwrap().remove("running_at").unwrap();
        assert_eq!(serde_json::from_value::<Journal>(value).unwrap(), journal);
    }
}
