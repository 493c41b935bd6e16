//! The installer's own directory on the host: journal, record, and copies of files by their digest.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Journal, Record, State,
    durable::{self, Source},
    state::digest_of_file,
};
use crate::{
    error::{Error, Result},
    host::Host,
};

/// Version of the records' format.
pub(super) const FORMAT: u32 = 1;

/// The directory, as the host sees it and as this process reaches it.
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

    /// Writes the journal ahead of what it announces.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_journal(&self, journal: &Journal) -> Result<()> {
        self.save("journal.json", journal)
    }

    /// Writes what is installed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        self.save("installed.json", record)
    }

    /// The operation is complete: its result becomes the record, then its journal goes. A crash in between leaves a
    /// journal whose id the record bears, which the next run takes away.
    ///
    /// # Errors
    /// The kernel's.
    pub fn commit(&self, journal: &Journal) -> Result<()> {
        match &journal.result {
            Some(record) => self.write_record(record)?,
            None => durable::discard(&self.path("installed.json")?)?,
        }
        self.close_journal()?;
        self.collect()
    }

    /// Removes the journal.
    ///
    /// # Errors
    /// The kernel's.
    pub fn close_journal(&self) -> Result<()> {
        durable::discard(&self.path("journal.json")?)
    }

    /// Keeps a copy of a file. No hard link: somebody may edit the file in place, and the link would follow.
    pub(super) fn keep(&self, file: &Path, digest: &str) -> Result<()> {
        let copy = self.copy_of(digest)?;
        if copy.exists() && digest_of_file(&copy).is_ok_and(|found| found == digest) {
            return Ok(());
        }
        durable::discard(&copy)?;
        self.make_dir("copies")?;
        durable::replace(&copy, &Source::File(file), 0o600, None, None)?;
        let found = digest_of_file(&copy).map_err(Error::io("read", &copy))?;
        if found == digest {
            return Ok(());
        }
        Err(Error::Record {
            path: file.to_owned(),
            why: "it changed while it was copied".into(),
            fix: "try again",
        })
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

    /// Removes copies that neither record nor journal refer to.
    ///
    /// # Errors
    /// The kernel's.
    pub fn collect(&self) -> Result<()> {
        let mut wanted = BTreeSet::new();
        let mut keep = |state: &State| {
            if let State::File { digest, .. } = state {
                wanted.insert(digest.clone());
            }
        };
        for change in self.record()?.iter().flat_map(|record| &record.changes) {
            keep(&change.pristine);
        }
        for change in self.journal()?.iter().flat_map(|journal| &journal.changes) {
            keep(&change.before);
            keep(&change.pristine);
        }
        let copies = self.path("copies")?;
        for entry in fs::read_dir(&copies).into_iter().flatten().flatten() {
            let known = entry.file_name().to_str().is_some_and(|name| wanted.contains(name));
            if !known {
                durable::discard(&entry.path())?;
            }
        }
        durable::discard_dir(&copies)?;
        Ok(())
    }

    fn make_dir(&self, name: &str) -> Result<()> {
        let dir = self.path(name)?;
        fs::create_dir_all(&dir).map_err(Error::io("create", dir))
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

    fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        self.make_dir("")?;
        let path = self.path(name)?;
        let bytes = serde_json::to_vec_pretty(value).map_err(Error::io("encode", &path))?;
        durable::write_atomic(&path, &bytes, 0o600)
    }
}
