//! The installer's own directory, open for changes.

use std::{collections::BTreeSet, fs, ops::Deref, path::Path};

use serde::Serialize;

use super::{
    Journal, Record, State, Store,
    durable::{self, Source},
    state::digest_of_file,
};
use crate::{
    error::{Error, Result},
    host::Lock,
};

/// The store while this process has the host's lock. Everything that changes the store or the host wants a `Writer`, so
/// that two installers never work at the same time.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    _lock: Lock,
}

impl Deref for Writer {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Store {
    /// Takes the host's lock, and makes the directory where it is not there yet.
    ///
    /// # Errors
    /// [`Error::Locked`] where another installer has it.
    pub fn lock(&self) -> Result<Writer> {
        Ok(Writer {
            _lock: Lock::take(self.host(), self.dir())?,
            store: self.clone(),
        })
    }
}

impl Writer {
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

    /// Keeps a copy of a text that no file has now.
    pub(super) fn keep_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.make_dir("copies")?;
        durable::write_atomic(&self.copy_of(&super::digest(bytes))?, bytes, 0o600)
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

    fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        self.make_dir("")?;
        let path = self.path(name)?;
        let bytes = serde_json::to_vec_pretty(value).map_err(Error::io("encode", &path))?;
        durable::write_atomic(&path, &bytes, 0o600)
    }
}
