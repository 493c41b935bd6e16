//! Signals to the processes of containers, and to nobody else: a pid that the service names may be another process's by
//! now, one of the host's even.
//!
//! A container's process is a child of the zygote, or for a moment still of the worker that has made it. Only its parent
//! reaps it, so a descriptor that was opened before the parent was looked at is that process's or a dead one's.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::getpid;

use crate::fault::{Fault, Result};

/// A worker's own children may make the process: so many parents up a worker is looked for.
const GENERATIONS: usize = 4;

/// Sends a signal, by its number (nix does not name real-time signals), to a process of a container.
pub fn send(pid: i32, signal: i32, is_worker: impl Fn(i32) -> bool) -> Result<()> {
    let finished = || Fault::not_found("process already finished");
    let process = match open(pid) {
        Ok(process) => Some(process),
        Err(Errno::ESRCH | Errno::EINVAL) => return Err(finished()),
        // A kernel before 5.3, or no descriptor to be had: our own child is not reaped, so the pid is still its own.
        Err(_) => None,
    };
    // A second look, for a worker may end between two steps of the first: then its children are the zygote's.
    if is_worker(pid) || !(is_ours(pid, &is_worker) || is_ours(pid, &is_worker)) {
        return Err(finished());
    }
    let sent = match &process {
        Some(process) => {
            let no_details = std::ptr::null::<libc::siginfo_t>();
            // SAFETY: pidfd_send_signal(2) takes an open descriptor and plain numbers; it fills in the details itself.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, no_details, 0) }
        }
        // SAFETY: kill(2) takes plain numbers.
        None => libc::c_long::from(unsafe { libc::kill(pid, signal) }),
    };
    match Errno::result(sent) {
        Ok(_) => Ok(()),
        Err(Errno::ESRCH) => Err(finished()),
        Err(errno) => Err(Fault::invalid(format!(
            "cannot send signal {signal} to process {pid}: {errno}"
        ))),
    }
}

fn open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes plain numbers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether it is a child of ours, or below a worker.
fn is_ours(pid: i32, is_worker: impl Fn(i32) -> bool) -> bool {
    let zygote = getpid().as_raw();
    let mut at = pid;
    for generation in 0..GENERATIONS {
        match parent(at) {
            Some(parent) if parent == zygote => return generation == 0,
            Some(parent) if is_worker(parent) => return true,
            Some(parent) if parent > 1 => at = parent,
            _ => return false,
        }
    }
    false
}

/// Source: proc_pid_stat(5); the name, in brackets, may hold anything.
fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    fn pid_of(child: &std::process::Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    #[test]
    fn a_child_gets_any_signal_also_a_real_time_one() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let signal = libc::SIGRTMIN() + 2;
        send(pid_of(&child), signal, |_| false).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal));
        let gone = send(pid_of(&child), libc::SIGTERM, |_| false).unwrap_err();
        assert_eq!(gone.kind, Kind::NotFound);
    }

    #[test]
    fn a_process_that_is_not_the_zygotes_gets_none() {
        // A grandchild, which is somebody else's child.
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let grandchild: i32 = line.trim().parse().unwrap();
        for pid in [grandchild, 1, getpid().as_raw(), 0, -1, i32::MIN] {
            let refused = send(pid, 0, |_| false).unwrap_err();
            assert_eq!(refused.kind, Kind::NotFound, "{pid}: {refused}");
        }
        // Unless the one in between is a worker, which nobody may signal itself.
        let worker = pid_of(&shell);
        send(grandchild, libc::SIGTERM, |pid| pid == worker).unwrap();
        assert!(send(worker, libc::SIGTERM, |pid| pid == worker).is_err());
        shell.wait().unwrap();
    }
}
