//! Keeping the cache within its size.
//!
//! Removing an entry is always safe: who has it mapped or open keeps it, and who wants it again compiles it again. But it
//! frees nothing while it is in use, and would be compiled again for the next container, so an entry with a lease stays.

use std::collections::HashSet;
use std::fs::{self, DirEntry, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::entry::{ENTRY, LOCK, TEMPORARY};
use super::failures::FAILED;
use super::lock::{self, Turn};
use crate::cache::Cache;
use crate::error::CacheError;

/// Collections of one node come one after another: two at a time would each remove what is too much.
const COLLECTOR: &str = "collector";
/// A record that is written and not yet in its place is older than this only if its writer was killed.
const WRITING: Duration = Duration::from_secs(60);

/// What a collection has found and done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Entries that were removed.
    pub removed: usize,
    /// Their size in bytes.
    pub removed_bytes: u64,
    /// Entries that are left.
    pub kept: usize,
    /// Their size in bytes, and that of what is being written.
    pub kept_bytes: u64,
}

struct Entry {
    name: String,
    bytes: u64,
    last_used: SystemTime,
}

impl Cache {
    /// Removes the least recently used entries until the rest fits into `max_bytes`, but none that a container uses or that
    /// was used within `min_age`. Also removes what killed processes have left behind.
    ///
    /// # Errors
    /// When the cache cannot be listed.
    pub fn collect(&self, max_bytes: u64, min_age: Duration) -> Result<Collected, CacheError> {
        let _alone = self.alone()?;
        let mut entries = Vec::new();
        let mut written = 0;
        for found in fs::read_dir(&self.dir).map_err(CacheError::io("list", &self.dir))? {
            let found = found.map_err(CacheError::io("list", &self.dir))?;
            match found.path().extension().and_then(|suffix| suffix.to_str()) {
                Some(ENTRY) => entries.extend(self.examine(&found)),
                Some(TEMPORARY | LOCK) => {
                    remove_abandoned(&found.path());
                    // One that is gone now has no size.
                    written += found.metadata().map_or(0, |metadata| metadata.len());
                }
                _ => {}
            }
        }
        self.remove_orphans(&entries)?;
        entries.sort_by_key(|entry| entry.last_used);

        let mut result = Collected {
            kept: entries.len(),
            kept_bytes: written + entries.iter().map(|entry| entry.bytes).sum::<u64>(),
            ..Collected::default()
        };
        let newest = SystemTime::now().checked_sub(min_age).unwrap_or(SystemTime::UNIX_EPOCH);
        for entry in entries {
            if result.kept_bytes <= max_bytes || entry.last_used > newest {
                break;
            }
            match remove_unused(&self.dir.join(&entry.name)) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    let path = self.dir.join(&entry.name);
                    tracing::warn!(entry = %path.display(), %error, "cannot remove an entry that is no longer needed");
                    continue;
                }
            }
            self.stamps.remove(&entry.name);
            result.kept -= 1;
            result.kept_bytes -= entry.bytes;
            result.removed += 1;
            result.removed_bytes += entry.bytes;
        }
        Ok(result)
    }

    /// Waits until no other process collects.
    fn alone(&self) -> Result<File, CacheError> {
        let path = self.stamps.dir().join(COLLECTOR);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path);
        let file = opened.map_err(CacheError::io("open", &path))?;
        loop {
            match file.lock() {
                Ok(()) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(CacheError::io("lock", &path)(error)),
            }
        }
    }

    /// An entry that vanishes meanwhile is none.
    fn examine(&self, found: &DirEntry) -> Option<Entry> {
        let name = found.file_name().into_string().ok()?;
        let metadata = found.metadata().ok()?;
        // Without a stamp it has not been used since the boot, or was never.
        let last_used = self.stamps.last_used(&name).or_else(|| metadata.modified().ok())?;
        Some(Entry {
            name,
            bytes: metadata.len(),
            last_used,
        })
    }

    /// Removes stamps of entries that are gone, and half-written stamps and records.
    fn remove_orphans(&self, entries: &[Entry]) -> Result<(), CacheError> {
        let names: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let dir = self.stamps.dir();
        for found in fs::read_dir(dir).map_err(CacheError::io("list", dir))? {
            let found = found.map_err(CacheError::io("list", dir))?;
            let Some(name) = found.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let is_orphan = match name.rsplit_once('.') {
                // Between the listing of entries and this one, a new entry may have got its stamp.
                Some((_, ENTRY)) => !names.contains(name.as_str()) && !self.dir.join(&name).exists(),
                Some((rest, _)) if rest.ends_with(&format!(".{ENTRY}")) || rest.ends_with(&format!(".{FAILED}")) => {
                    is_older_than(&found, WRITING)
                }
                _ => false,
            };
            if is_orphan {
                let _ = fs::remove_file(found.path());
            }
        }
        Ok(())
    }
}

fn is_older_than(found: &DirEntry, age: Duration) -> bool {
    let modified = found.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|elapsed| elapsed > age))
}

/// Removes the entry at `path` unless somebody has a lease on it; tells whether it did.
fn remove_unused(path: &Path) -> io::Result<bool> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    match opened {
        Ok(file) => match file.try_lock() {
            // The lock is held until the name is gone.
            Ok(()) => fs::remove_file(path).map(|()| true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        // No entry, whatever it is.
        Err(_) => fs::remove_file(path).map(|()| true),
    }
}

/// Removes a temporary file or a lock whose process is gone, which having the lock proves.
fn remove_abandoned(path: &Path) {
    let temporary = path.with_extension(TEMPORARY);
    let lock = path.with_extension(LOCK);
    if let Ok(Turn::Mine(_held)) = lock::acquire(&lock, Instant::now(), &mut || false) {
        let _ = fs::remove_file(&temporary);
    }
}
