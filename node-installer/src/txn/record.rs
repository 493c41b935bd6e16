//! What is installed on a host.

use serde::{Deserialize, Serialize};

use super::{Change, FORMAT, Role, State};

/// An installed version of the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its directory's name: version and the start of the digest.
    pub name: String,
    /// SHA-256 of the binary.
    pub digest: String,
    /// When pods stopped being started with it, in nanoseconds since 1970; `None` for the current one.
    pub retired: Option<i64>,
}

/// What is installed, and how to take it away again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format of this record.
    pub format: u32,
    /// The operation that wrote it.
    pub id: String,
    /// Preset of the distribution.
    pub preset: String,
    /// Versions on disk, the current one last.
    pub versions: Vec<Version>,
    /// Digest of a shim that this node was rolled back from and that is not to be installed again.
    #[serde(default, rename = "held", skip_serializing_if = "Option::is_none")]
    pub rolled_back_from: Option<String>,
    /// Every path that is not as it would be without Tandem, in the order of the changes.
    pub changes: Vec<Change>,
}

impl Record {
    /// An empty record.
    pub fn new(id: &str, preset: &str) -> Self {
        Self {
            format: FORMAT,
            id: id.into(),
            preset: preset.into(),
            versions: Vec::new(),
            rolled_back_from: None,
            changes: Vec::new(),
        }
    }

    /// The version that new pods are started with.
    pub fn current(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// Takes a change in: a path changed twice keeps the first pristine state.
    pub fn absorb(&mut self, change: &Change) {
        match self.changes.iter_mut().find(|known| known.path == change.path) {
            Some(known) => {
                known.after = change.after.clone();
                known.pristine = change.pristine.clone();
            }
            None => self.changes.push(change.clone()),
        }
        self.changes.retain(|change| change.pristine != change.after);
    }

    /// The recorded change of a path.
    pub fn change(&self, path: &std::path::Path) -> Option<&Change> {
        self.changes.iter().find(|change| change.path == path)
    }

    /// Whether any of its changes is of containerd's configuration.
    pub fn has_config(&self) -> bool {
        let is_config = |change: &Change| change.role == Role::Config && change.after != State::Dir;
        self.changes.iter().any(is_config)
    }
}
