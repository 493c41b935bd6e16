//! Modules that did not compile lately, so that trying again costs nothing.
//!
//! A record is a small file beside the stamps, on a tmpfs: its name says for which source and engine, its modification
//! time when, its first byte whose fault it was, and the rest why. Records expire, their number is bounded, and the
//! oldest makes room for a new one. What only depends on the node for a while, like a full disk, is never recorded.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{Blame, CompileError};

/// Ends the name of a record.
pub(crate) const FAILED: &str = "failed";
/// Longest reason that is kept.
const LONGEST_REASON: usize = 2048;
/// What may have been the node's fault is believed for so many times less long.
const DOUBT: u32 = 10;

/// The records of one cache.
#[derive(Debug, Clone)]
pub(crate) struct Failures {
    dir: PathBuf,
    most: usize,
    expiry: Duration,
}

/// A failure that is still believed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) blame: Blame,
    pub(crate) age: Duration,
    pub(crate) left: Duration,
}

impl Failures {
    /// At most `most` records in `dir`, each for `expiry`.
    pub(crate) fn new(dir: &Path, most: usize, expiry: Duration) -> Self {
        Self {
            dir: dir.to_owned(),
            most,
            expiry,
        }
    }

    /// The failure of the entry that is called `stem`, if there is one that has not expired.
    pub(crate) fn get(&self, stem: &str) -> Option<Failure> {
        let path = self.path(stem);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .ok()?;
        let age = SystemTime::now().duration_since(file.metadata().ok()?.modified().ok()?);
        let mut text = Vec::new();
        let limit = LONGEST_REASON as u64 + 2;
        file.take(limit).read_to_end(&mut text).ok()?;
        let [doubtful, blame, reason @ ..] = &text[..] else {
            return None;
        };
        let expiry = if *doubtful == b'?' {
            self.expiry / DOUBT
        } else {
            self.expiry
        };
        match age {
            // A clock that was set back makes a record look younger than now: it is as good as expired.
            Ok(age) if age < expiry => Some(Failure {
                reason: String::from_utf8_lossy(reason).into_owned(),
                blame: Blame::from_byte(*blame),
                age,
                left: expiry - age,
            }),
            _ => {
                let _ = fs::remove_file(path);
                None
            }
        }
    }

    /// Remembers why the entry that is called `stem` could not be made, if trying again is likely to end the same way.
    pub(crate) fn record(&self, stem: &str, error: &CompileError) {
        let Some(doubtful) = error.outlasts_this_try() else {
            return;
        };
        if self.most == 0 || self.expiry.is_zero() {
            return;
        }
        if let Err(error) = self.write(stem, doubtful, error) {
            tracing::warn!(entry = stem, %error, "cannot remember that a module does not compile; it is tried at every start");
        }
    }

    fn write(&self, stem: &str, doubtful: bool, error: &CompileError) -> io::Result<()> {
        self.make_room()?;
        let mut text = vec![if doubtful { b'?' } else { b'!' }, error.blame().byte()];
        let reason = crate::error::chain(error);
        let mut end = reason.len().min(LONGEST_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        text.extend_from_slice(&reason.as_bytes()[..end]);
        let temporary = self.dir.join(format!("{stem}.{FAILED}.{}", std::process::id()));
        let _ = fs::remove_file(&temporary);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&temporary, self.path(stem)));
        written.inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
    }

    /// Removes the oldest records until there is room for another one.
    fn make_room(&self) -> io::Result<()> {
        let mut records = Vec::new();
        for found in fs::read_dir(&self.dir)? {
            let path = found?.path();
            if path.extension().is_some_and(|suffix| suffix == FAILED)
                && let Ok(written) = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified())
            {
                records.push((written, path));
            }
        }
        records.sort();
        let excess = (records.len() + 1).saturating_sub(self.most);
        for (_, path) in records.into_iter().take(excess) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn path(&self, stem: &str) -> PathBuf {
        self.dir.join(format!("{stem}.{FAILED}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalid(reason: &str) -> CompileError {
        CompileError::Invalid {
            name: "/app.wasm".into(),
            reason: reason.into(),
        }
    }

    fn count(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_failure_is_remembered_with_its_reason_until_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let failures = Failures::new(dir.path(), 8, Duration::from_millis(500));
        assert!(failures.get("a").is_none());
        failures.record("a", &invalid("type mismatch"));
        let failure = failures.get("a").unwrap();
        assert!(failure.reason.contains("type mismatch") && failure.blame == Blame::Module);
        assert!(failures.get("b").is_none());
        std::thread::sleep(Duration::from_millis(600));
        assert!(failures.get("a").is_none());
        assert_eq!(count(dir.path()), 0, "an expired record is removed");
    }

    #[test]
    fn what_the_node_may_have_caused_is_believed_for_less_long_and_a_full_disk_never() {
        let dir = tempfile::tempdir().unwrap();
        let failures = Failures::new(dir.path(), 8, Duration::from_secs(100));
        failures.record("sure", &invalid("bad"));
        failures.record(
            "slow",
            &CompileError::Timeout {
                name: "/app.wasm".into(),
                limit: Duration::from_secs(1),
            },
        );
        failures.record(
            "gone",
            &CompileError::Cancelled {
                name: "/app.wasm".into(),
            },
        );
        assert!(failures.get("sure").unwrap().left > Duration::from_secs(90));
        assert!(failures.get("slow").unwrap().left < Duration::from_secs(11));
        assert!(failures.get("gone").is_none());
    }

    #[test]
    fn the_number_and_the_size_of_records_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let failures = Failures::new(dir.path(), 3, Duration::from_secs(100));
        for number in 0..10 {
            failures.record(&format!("m{number}"), &invalid(&"ü".repeat(100_000)));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(count(dir.path()), 3);
        assert!(failures.get("m9").unwrap().reason.len() <= LONGEST_REASON + 2);
        assert!(failures.get("m6").is_none());
    }
}
