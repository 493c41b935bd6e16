//! On whose behalf a module is compiled.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Who wants a module, and who pays for its compilation.
#[derive(Debug, Default)]
pub struct Requester<'a> {
    /// A descriptor that becomes readable, or is hung up, when nobody waits for the answer any more. The compilation is
    /// then given up, unless another request waits for the same module.
    pub hangup: Option<BorrowedFd<'a>>,
    /// Files `cgroup.procs`, open for writing, that the compiler joins before it reads a byte of the module: one on cgroup
    /// v2, one for each hierarchy on v1. It cannot be a cgroup of v2 that has controllers enabled for its children.
    pub cgroups: Vec<BorrowedFd<'a>>,
}

impl Requester<'_> {
    /// Whether nobody waits for the answer any more.
    pub(crate) fn has_hung_up(&self) -> bool {
        let Some(hangup) = self.hangup else { return false };
        loop {
            // POLLRDHUP: the other end of a socket will send nothing more.
            let events = PollFlags::POLLIN | PollFlags::from_bits_retain(libc::POLLRDHUP);
            match poll(&mut [PollFd::new(hangup, events)], PollTimeout::ZERO) {
                Err(Errno::EINTR) => {}
                Ok(ready) => return ready > 0,
                Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_closed_pipe_or_socket_is_a_requester_that_has_gone() {
        let (reader, writer) = std::io::pipe().unwrap();
        let requester = Requester {
            hangup: Some(reader.as_fd()),
            ..Requester::default()
        };
        assert!(!requester.has_hung_up());
        drop(writer);
        assert!(requester.has_hung_up());

        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let requester = Requester {
            hangup: Some(ours.as_fd()),
            ..Requester::default()
        };
        assert!(!requester.has_hung_up());
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(requester.has_hung_up());
        assert!(!Requester::default().has_hung_up());
    }
}
