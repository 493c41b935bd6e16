//! The installer's own directory on the host: journal, record, and copies of files by their digest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::{FORMAT, Journal, Record};
use crate::{
    error::{Error, Result},
    host::Host,
};

/// The directory, as the host sees it and as this process reaches it. It can be read at any time; what changes it is
/// [`Writer`](super::Writer)'s.
#[derive(Clone, Debug)]
pub struct Store {
    host: Host,
    dir: PathBuf,
}

impl Store {
    /// The store in `dir` of the host; it is made when something is written.
    pub fn new(host: &Host, dir: &Path) -> Self {
        Self {
            host: host.clone(),
            dir: dir.to_owned(),
        }
    }

    /// The host whose directory it is.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// The directory on the host.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path by which this process reaches `name` in the directory.
    ///
    /// # Errors
    /// A loop of links on the way.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        Ok(self.host.path(&self.dir)?.join(name))
    }

    /// The operation that is under way or was interrupted.
    ///
    /// # Errors
    /// A journal that cannot be read.
    pub fn journal(&self) -> Result<Option<Journal>> {
        self.load("journal.json")
    }

    /// What is installed.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn record(&self) -> Result<Option<Record>> {
        self.load("installed.json")
    }

    /// The copy of a file with this digest.
    pub(super) fn copy_of(&self, digest: &str) -> Result<PathBuf> {
        Ok(self.path("copies")?.join(digest))
    }

    /// The content of a copy.
    ///
    /// # Errors
    /// Where it is missing or damaged.
    pub fn read_copy(&self, wanted: &str) -> Result<Vec<u8>> {
        let path = self.copy_of(wanted)?;
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        if super::digest(&bytes) == wanted {
            return Ok(bytes);
        }
        Err(Error::Record {
            path,
            why: "its content does not have the digest it is named by".into(),
            fix: "restore the file from a backup of the host",
        })
    }

    fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.dir.join(name);
        let Some(bytes) = self.host.read(&path)? else {
            return Ok(None);
        };
        let unusable = |why: String| Error::Record {
            path: path.clone(),
            why,
            fix: "use the version of the installer that wrote it, or see \"Records\" in docs/install.md",
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
        if value["format"] != FORMAT {
            return Err(unusable(format!(
                "its format is {}, this program knows {FORMAT}",
                value["format"]
            )));
        }
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| unusable(error.to_string()))
    }
}
