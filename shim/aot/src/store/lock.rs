//! One compilation at a time per entry, across all processes of the node.
//!
//! The lock is an `flock` on a file beside the entry, so the kernel releases it when its holder dies. The holder
//! removes the file *while it still has the lock*; so lock files do not accumulate, and one that is left behind
//! means that its holder was killed, which the next one simply takes over.
//!
//! Who waits has the file open and sees, once it gets the lock, that the file was removed: the holder is done. If
//! the file then has content, the holder has failed and says why. That answer goes to all who waited for it, so that
//! a module that takes a minute to fail takes a minute for all of its pods and not a minute for each. Who comes later
//! finds no file and tries anew.
//!
//! Who waits also holds a shared lock of the other kind (`fcntl(2)`, open file description locks) on the same file. By
//! that the holder knows whether anybody waits for it, when its own requester has gone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};

use crate::source::read_full;

/// A waiting process looks again this often at first, then less often up to [`SLOWEST`].
const FASTEST: Duration = Duration::from_millis(1);
/// What a wait may cost beyond the compilation itself.
const SLOWEST: Duration = Duration::from_millis(20);
/// Longest error that is handed on.
const LONGEST_ERROR: usize = 16 * 1024;

/// The growing pause between two looks.
#[derive(Debug)]
pub(crate) struct Pause(Duration);

impl Pause {
    pub(crate) fn new() -> Self {
        Self(FASTEST)
    }

    /// Sleeps, but not longer than `left`.
    pub(crate) fn sleep(&mut self, left: Duration) {
        std::thread::sleep(self.0.min(left));
        self.0 = (self.0 * 2).min(SLOWEST);
    }
}

/// The right to make one entry. Dropping it lets the others look at the result.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

/// How a wait for the lock has ended.
#[derive(Debug)]
pub enum Turn {
    /// The lock is ours.
    Mine(Lock),
    /// Another process was at it and is done.
    Done,
    /// Another process was at it and failed with this error.
    Failed(Vec<u8>),
    /// Another process still is at it.
    TimedOut,
    /// Another process still is at it, and nobody wants our answer any more.
    GivenUp,
}

/// Waits for the lock at `path`, until `deadline` at most or until `given_up` says so.
///
/// # Errors
/// When the lock file cannot be made or read.
pub fn acquire(path: &Path, deadline: Instant, given_up: &mut dyn FnMut() -> bool) -> io::Result<Turn> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let mut pause = Pause::new();
    let mut registered = false;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if !registered => {
                register(&file, libc::F_RDLCK)?;
                registered = true;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Turn::TimedOut);
        }
        if given_up() {
            return Ok(Turn::GivenUp);
        }
        pause.sleep(left);
    }
    if registered {
        register(&file, libc::F_UNLCK)?;
    }
    if file.metadata()?.nlink() > 0 {
        // A holder that was killed may have left half an error.
        file.set_len(0)?;
        return Ok(Turn::Mine(Lock {
            file,
            path: path.to_owned(),
        }));
    }
    let mut reason = vec![0; LONGEST_ERROR];
    let length = read_full(&file, &mut reason, 0)?;
    reason.truncate(length);
    Ok(if reason.is_empty() {
        Turn::Done
    } else {
        Turn::Failed(reason)
    })
}

/// Takes or gives back the mark of one who waits.
fn register(file: &File, kind: libc::c_int) -> io::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(kind)))?;
    Ok(())
}

fn whole_file(kind: libc::c_int) -> libc::flock {
    // SAFETY: all-zero is a valid lock: from the start of the file to its end, whatever that is.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    #[allow(clippy::cast_possible_truncation)]
    {
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
    }
    lock
}

impl Lock {
    /// Whether another process waits for the result.
    pub fn is_awaited(&self) -> bool {
        let mut lock = whole_file(libc::F_WRLCK);
        // When the kernel cannot tell, somebody may be waiting.
        fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut lock)).is_err() || libc::c_int::from(lock.l_type) != libc::F_UNLCK
    }

    /// Gives the lock up and hands `reason` to all who wait for it.
    pub fn fail(self, reason: &[u8]) {
        let reason = &reason[..reason.len().min(LONGEST_ERROR)];
        // Should this fail, the waiting ones try for themselves.
        let _ = self.file.write_all_at(reason, 0);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Only the holder removes the file, so `path` still names it.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn mine(turn: Turn) -> Lock {
        match turn {
            Turn::Mine(lock) => lock,
            other => panic!("expected the lock, got {other:?}"),
        }
    }

    #[test]
    fn a_released_lock_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        drop(mine(acquire(&path, soon(), &mut || false).unwrap()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn who_waits_learns_that_the_holder_is_done_or_why_it_failed() {
        let dir = tempfile::tempdir().unwrap();
        let path = &dir.path().join("a.lock");
        for reason in [None, Some("too bad")] {
            std::thread::scope(|scope| {
                let held = mine(acquire(path, soon(), &mut || false).unwrap());
                let waiting: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| acquire(path, soon(), &mut || false).unwrap()))
                    .collect();
                std::thread::sleep(Duration::from_millis(100));
                match reason {
                    None => drop(held),
                    Some(reason) => held.fail(reason.as_bytes()),
                }
                for turn in waiting {
                    match (turn.join().unwrap(), reason) {
                        (Turn::Done, None) => {}
                        (Turn::Failed(heard), Some(said)) => assert_eq!(heard, said.as_bytes()),
                        (turn, _) => panic!("{turn:?} for {reason:?}"),
                    }
                }
            });
        }
    }

    #[test]
    fn a_lock_whose_holder_died_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        fs::write(&path, "").unwrap();
        drop(mine(acquire(&path, soon(), &mut || false).unwrap()));
        assert!(!path.exists());
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let _held = mine(acquire(&path, soon(), &mut || false).unwrap());
        let turn = acquire(&path, Instant::now() + Duration::from_millis(50), &mut || false).unwrap();
        assert!(matches!(turn, Turn::TimedOut));
    }
    #[test]
    fn the_holder_knows_whether_somebody_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = &dir.path().join("a.lock");
        let held = mine(acquire(path, soon(), &mut || false).unwrap());
        assert!(!held.is_awaited());
        std::thread::scope(|scope| {
            let (leave, left) = std::sync::mpsc::channel::<()>();
            let mut given_up = move || left.try_recv().is_ok();
            let waiting = scope.spawn(move || acquire(path, soon(), &mut given_up).unwrap());
            while !held.is_awaited() {
                assert!(!waiting.is_finished());
            }
            leave.send(()).unwrap();
            assert!(matches!(waiting.join().unwrap(), Turn::GivenUp));
        });
        assert!(!held.is_awaited(), "who has left waits no more");
    }

    #[test]
    fn who_waited_and_then_holds_the_lock_does_not_wait_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = &dir.path().join("a.lock");
        std::thread::scope(|scope| {
            let held = mine(acquire(path, soon(), &mut || false).unwrap());
            let waiting = scope.spawn(|| acquire(path, soon(), &mut || false).unwrap());
            while !held.is_awaited() {}
            // As when the holder is killed: the lock is free, the file is still there.
            drop(held.file.try_clone().unwrap());
            held.file.unlock().unwrap();
            let next = mine(waiting.join().unwrap());
            assert!(!next.is_awaited());
            std::mem::forget(held);
        });
    }
}
