//! The one file that the shims of a node lock, `s/lock` in the run directory: its first byte guards the sockets of all
//! shims, and each zygote holds a byte of its own for as long as it lives.
//!
//! The locks are a process's own (fcntl, not flock): a process that is forked while one is held has no share in it. So a
//! `start` that containerd kills in the middle does not leave the node locked for as long as the shim it has forked lives,
//! and no container keeps its zygote's byte. The other side of it: a process must not open the file twice, because closing
//! it once gives up all.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use sha2::{Digest, Sha256};

use crate::fault::{Fault, Result};

/// Pause between two looks at a zygote that is about to end.
const POLL: Duration = Duration::from_millis(5);

/// A lock, for as long as it exists.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, not used")] File);

/// Waits for the lock under which sockets appear and disappear in `dir`.
pub fn sockets(dir: &Path) -> Result<Lock> {
    let file = open(dir)?;
    loop {
        match fcntl(&file, FcntlArg::F_SETLKW(&byte(0))) {
            Ok(_) => return Ok(Lock(file)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(fault(dir, &errno)),
        }
    }
}

/// Takes a shim's socket away, so that no `start` finds it any more.
pub fn remove_socket(socket: &Path) {
    let _lock = socket.parent().map(sockets);
    let _ = std::fs::remove_file(socket);
}

/// Says that the zygote behind `socket` lives: this process. The one before it may still be ending, or be looked for by a
/// `delete`, so it is waited for, at most for `patience`. If it hangs in the kernel this one lives without a lock: whoever
/// waits for its end waits for the other one too.
pub fn live(socket: &Path, patience: Duration) -> Result<Lock> {
    let dir = socket.parent().unwrap_or(Path::new("/"));
    let file = open(dir)?;
    match take(&file, place(socket), patience) {
        Ok(()) | Err(Errno::EAGAIN | Errno::EACCES) => Ok(Lock(file)),
        Err(errno) => Err(fault(dir, &errno)),
    }
}

/// Waits until no zygote behind `socket` lives any more, at most for `patience`.
pub fn wait_for_end(socket: &Path, patience: Duration) -> Result<()> {
    let dir = socket.parent().unwrap_or(Path::new("/"));
    let file = open(dir)?;
    take(&file, place(socket), patience).map_err(|errno| fault(dir, &errno))
}

fn take(file: &File, place: i64, patience: Duration) -> nix::Result<()> {
    let since = Instant::now();
    loop {
        match fcntl(file, FcntlArg::F_SETLK(&byte(place))) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) if since.elapsed() < patience => std::thread::sleep(POLL),
            Err(errno) => return Err(errno),
        }
    }
}

fn open(dir: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("lock"))
        .map_err(|error| fault(dir, &error))
}

/// The byte of a shim: by its socket's name, which is a hash already but as a test may give it anything.
fn place(socket: &Path) -> i64 {
    let name = socket.file_name().unwrap_or_default();
    let hash = Sha256::digest(name.as_encoded_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&hash[..8]);
    // Not the first byte, which is the sockets', and not negative.
    (i64::from_ne_bytes(number) & (i64::MAX >> 1)) + 1
}

fn byte(at: i64) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: at,
        l_len: 1,
        l_pid: 0,
    }
}

fn fault(dir: &Path, why: &dyn std::fmt::Display) -> Fault {
    Fault::internal(format!("cannot lock {}: {why}", dir.join("lock").display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shims_have_bytes_of_their_own_and_none_has_that_of_the_sockets() {
        let [a, b] = ["/s/aaaa", "/s/bbbb"].map(|socket| place(Path::new(socket)));
        assert!(a > 0 && b > 0 && a != b);
    }

    #[test]
    fn what_waits_for_a_zygotes_end_sees_it() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("0123");
        wait_for_end(&socket, Duration::ZERO).unwrap();
        // As if another process's: a process's own locks are no obstacle to it, those of a file description are.
        let holder = open(dir.path()).unwrap();
        fcntl(&holder, FcntlArg::F_OFD_SETLK(&byte(place(&socket)))).unwrap();
        assert!(wait_for_end(&socket, Duration::from_millis(20)).is_err());
        sockets(dir.path()).unwrap();
        // Its successor neither fails nor waits for ever.
        live(&socket, Duration::from_millis(20)).unwrap();
        let release = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(holder);
        });
        let lives = live(&socket, Duration::from_secs(5)).unwrap();
        release.join().unwrap();
        drop(lives);
        wait_for_end(&socket, Duration::from_secs(5)).unwrap();
    }
}
