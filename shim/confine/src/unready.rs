//! A process that has been forked and is not ready yet. The processes of a container may see it, and stop it: so nobody waits
//! for it without a limit, and it does not outlive an error.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Class, Error, Named, Result};
use crate::line::{Line, Message};
use crate::sys::clone::kill;

/// Longest time between two messages of a process that gets ready; twice what a kubelet waits for a container.
const PATIENCE: Duration = Duration::from_secs(240);

/// Such a process; it is killed if this is dropped.
#[derive(Debug)]
pub struct Unready {
    process: Option<OwnedFd>,
    patience: Option<Duration>,
}

impl Unready {
    /// The process that the pidfd is of.
    pub fn new(process: OwnedFd) -> Self {
        Self {
            process: Some(process),
            patience: Some(PATIENCE),
        }
    }

    /// It runs programs of the node's admin, which take the time they take.
    pub fn runs_hooks(&mut self, does: bool) {
        self.patience = self.patience.filter(|_| !does);
    }

    /// Waits for the next message; `None` when the process has ended.
    pub fn receive(&self, line: &Line) -> Result<Option<(Message, Vec<OwnedFd>)>> {
        let Some(process) = &self.process else { return Ok(None) };
        let deadline = self.patience.map(|patience| Instant::now() + patience);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            let mut both = [
                PollFd::new(line.as_fd(), PollFlags::POLLIN),
                PollFd::new(process.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut both, left) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).host(|| "wait for the container's process".into()),
                Ok(0) => return Err(self.timed_out()),
                // What it has said before it ended counts.
                Ok(_) if both[0].any().unwrap_or(true) => return line.receive(),
                Ok(_) => return Ok(None),
            }
        }
    }

    fn timed_out(&self) -> Error {
        let seconds = self.patience.unwrap_or_default().as_secs();
        Error::new(
            Class::Unavailable,
            "process",
            format!(
                "it did not get ready within {seconds} s and was killed: another process of the container may have \
                 stopped it, or a file system does not answer"
            ),
        )
    }

    /// Leaves it alone: it is ready, or has done its work.
    pub fn leave(mut self) {
        self.process = None;
    }
}

impl Drop for Unready {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = kill(process.as_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clone::{Forked, fork_with_pidfd};

    /// A child that sends `message`, if any, and then waits until it is killed.
    fn child(message: Option<&Message>, ends: bool) -> (nix::unistd::Pid, Unready, Line) {
        let (line, theirs) = Line::pair().unwrap();
        // SAFETY: the child only makes system calls, and ends without unwinding.
        match unsafe { fork_with_pidfd() }.unwrap() {
            Forked::Child => {
                if let Some(message) = message {
                    let _ = theirs.send(message, &[]);
                }
                if !ends {
                    nix::unistd::pause();
                }
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(0) }
            }
            // The other end stays open here, so that only the pidfd tells of the end.
            Forked::Parent(pid, process) => {
                std::mem::forget(theirs);
                (nix::unistd::Pid::from_raw(pid), Unready::new(process), line)
            }
        }
    }

    fn ended_by(pid: nix::unistd::Pid) -> nix::sys::wait::WaitStatus {
        nix::sys::wait::waitpid(pid, None).unwrap()
    }

    #[test]
    fn a_process_that_says_nothing_is_waited_for_so_long_and_killed() {
        let (pid, mut unready, line) = child(None, false);
        unready.patience = Some(Duration::from_millis(50));
        let error = unready.receive(&line).unwrap_err();
        assert!(error.to_string().contains("did not get ready"), "{error}");
        drop(unready);
        let killed = nix::sys::wait::WaitStatus::Signaled(pid, nix::sys::signal::Signal::SIGKILL, false);
        assert_eq!(ended_by(pid), killed);
    }

    #[test]
    fn the_last_words_of_a_process_are_heard_and_then_its_end() {
        let (pid, unready, line) = child(Some(&Message::Mounted), true);
        assert!(matches!(unready.receive(&line), Ok(Some((Message::Mounted, _)))));
        assert!(unready.receive(&line).unwrap().is_none());
        assert_eq!(ended_by(pid), nix::sys::wait::WaitStatus::Exited(pid, 0));
    }

    #[test]
    fn a_process_that_is_ready_is_left_alone() {
        let (pid, unready, line) = child(Some(&Message::Ready), false);
        assert!(matches!(unready.receive(&line), Ok(Some((Message::Ready, _)))));
        unready.leave();
        assert_eq!(nix::sys::signal::kill(pid, None), Ok(()));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(matches!(ended_by(pid), nix::sys::wait::WaitStatus::Signaled(..)));
    }
}
