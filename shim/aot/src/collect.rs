//! Keeping the cache within its size.
//!
//! Removing an entry is always safe: who has it mapped or open keeps it, and who wants it again compiles it again.

use std::fs::{self, DirEntry};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::cache::Cache;
use crate::entry::{ENTRY, LOCK, TEMPORARY};
use crate::error::CacheError;
use crate::lock::{self, Turn};

/// What a collection has found and done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Entries that were removed.
    pub removed: usize,
    /// Their size in bytes.
    pub removed_bytes: u64,
    /// Entries that are left.
    pub kept: usize,
    /// Their size in bytes.
    pub kept_bytes: u64,
}

struct Entry {
    name: String,
    bytes: u64,
    last_used: SystemTime,
}

impl Cache {
    /// Removes the least recently used entries until the rest fits into `max_bytes`, but none that was used within
    /// `min_age`. Also removes what killed processes have left behind.
    ///
    /// # Errors
    /// When the cache cannot be listed.
    pub fn collect(&self, max_bytes: u64, min_age: Duration) -> Result<Collected, CacheError> {
        let mut entries = Vec::new();
        for found in fs::read_dir(&self.dir).map_err(CacheError::io("list", &self.dir))? {
            let found = found.map_err(CacheError::io("list", &self.dir))?;
            match found.path().extension().and_then(|suffix| suffix.to_str()) {
                Some(ENTRY) => entries.extend(self.examine(&found)),
                Some(TEMPORARY | LOCK) => remove_abandoned(&found.path()),
                _ => {}
            }
        }
        entries.sort_by_key(|entry| entry.last_used);

        let mut result = Collected {
            kept: entries.len(),
            kept_bytes: entries.iter().map(|entry| entry.bytes).sum(),
            ..Collected::default()
        };
        let newest = SystemTime::now().checked_sub(min_age).unwrap_or(SystemTime::UNIX_EPOCH);
        for entry in entries {
            if result.kept_bytes <= max_bytes || entry.last_used > newest {
                break;
            }
            let path = self.dir.join(&entry.name);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(entry = %path.display(), %error, "cannot remove an entry that is no longer needed");
                continue;
            }
            self.stamps.remove(&entry.name);
            result.kept -= 1;
            result.kept_bytes -= entry.bytes;
            result.removed += 1;
            result.removed_bytes += entry.bytes;
        }
        Ok(result)
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
}

/// Removes a temporary file or a lock whose process is gone, which having the lock proves.
fn remove_abandoned(path: &Path) {
    let temporary = path.with_extension(TEMPORARY);
    let lock = path.with_extension(LOCK);
    if let Ok(Turn::Mine(_held)) = lock::acquire(&lock, Instant::now()) {
        let _ = fs::remove_file(&temporary);
    }
}
