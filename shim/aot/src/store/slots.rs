//! How many compilers the node runs at a time.
//!
//! A slot is a file that the process which supervises a compiler holds an `flock` on, so a slot is free again when its
//! holder dies. Each slot has a user id of its own, so compilers of different modules cannot see each other, and the
//! kernel counts the threads of each alone (`RLIMIT_NPROC` counts by user).

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::lock::Pause;

/// User and group of the compiler in slot 0; further slots follow. From the range that systemd's table of user ids
/// (uids-gids.io/systemd) calls unused, above what container runtimes map.
const FIRST_USER: u32 = 2_147_000_000;
/// Slots that a configuration may ask for.
const MOST: u32 = 1024;

/// The right to run one compiler.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Holds the lock.
    _file: File,
    /// User and group of the compiler.
    pub(crate) user: u32,
}

/// Waits for one of `count` slots in `dir`, until `deadline` at most; `None` when it has passed or `given_up` says so.
pub(crate) fn take(
    dir: &Path,
    count: usize,
    deadline: Instant,
    given_up: &mut dyn FnMut() -> bool,
) -> io::Result<Option<Slot>> {
    let count = u32::try_from(count).unwrap_or(MOST).clamp(1, MOST);
    let mut pause = Pause::new();
    loop {
        for number in 0..count {
            if let Some(file) = try_take(dir, number)? {
                return Ok(Some(Slot {
                    _file: file,
                    user: FIRST_USER + number,
                }));
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO || given_up() {
            return Ok(None);
        }
        pause.sleep(left);
    }
}

fn try_take(dir: &Path, number: u32) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(dir.join(format!("slot.{number}")))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_slots_as_asked_for_and_a_freed_one_is_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let take = |milliseconds| {
            let deadline = Instant::now() + Duration::from_millis(milliseconds);
            super::take(dir.path(), 2, deadline, &mut || false).unwrap()
        };
        let (first, second) = (take(0).unwrap(), take(0).unwrap());
        assert_ne!(first.user, second.user);
        assert!(take(30).is_none());
        let user = first.user;
        drop(first);
        assert_eq!(take(0).unwrap().user, user);
    }

    #[test]
    fn who_gives_up_does_not_wait_for_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let soon = Instant::now() + Duration::from_secs(60);
        let _held = take(dir.path(), 1, soon, &mut || false).unwrap().unwrap();
        assert!(take(dir.path(), 1, soon, &mut || true).unwrap().is_none());
        assert!(Instant::now() < soon);
    }
}
