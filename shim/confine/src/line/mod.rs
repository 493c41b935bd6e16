//! The line between the process that makes a container and the container's first process: messages with descriptors over
//! a SOCK_SEQPACKET socket pair. The end of the line is the end of the other side.

mod ancillary;

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socketpair};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest message. Names of a hostile image are cut before they are sent.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// What one side tells the other.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// To the maker: the first process, whose pid it is, was forked by a helper.
    Forked(i32),
    /// To the first process: its ids are mapped, it is in its cgroup.
    Go,
    /// To the maker: all is mounted; the runtime's hooks may run.
    Mounted,
    /// To the maker: the master of the terminal, with a descriptor.
    Terminal,
    /// To the maker: the listener of the seccomp filter, with a descriptor.
    Listener,
    /// A question or an answer of the program that is to run, with descriptors.
    Program(serde_json::Value),
    /// To the maker: confined, and the program is ready.
    Ready,
    /// The other side cannot go on.
    Failed(Error),
}

/// One end.
#[derive(Debug)]
pub struct Line(OwnedFd);

impl From<OwnedFd> for Line {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Line {
    /// Both ends, closed on exec.
    pub fn pair() -> Result<(Self, Self)> {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map(|(one, other)| (Self(one), Self(other)))
            .map_err(|errno| Error::host("make a socket pair", errno))
    }

    /// Sends a message with descriptors.
    pub fn send(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        send(self.as_fd(), message, &raw, MsgFlags::empty())
            .map_err(|errno| Error::host("tell the process on the other side", errno))
    }

    /// Waits for the next message; `None` when the other side has ended.
    pub fn receive(&self) -> Result<Option<(Message, Vec<OwnedFd>)>> {
        let lost = || {
            Error::new(
                crate::error::Class::Exhausted,
                "take descriptors from the other process",
                "this process has as many files open as it may",
            )
        };
        match receive(self.as_fd(), MsgFlags::empty()) {
            Ok(Some(received)) if received.lost => Err(lost()),
            Ok(Some(received)) => Ok(Some((received.message, received.fds))),
            // The other side ended with something unread.
            Ok(None) | Err(Errno::ECONNRESET) => Ok(None),
            Err(errno) => Err(Error::host("hear from the process on the other side", errno)),
        }
    }
}

/// Sends `message` with `fds` over a SOCK_SEQPACKET socket. Blocks unless `flags` say otherwise.
pub fn send<M: Serialize>(socket: BorrowedFd<'_>, message: &M, fds: &[RawFd], flags: MsgFlags) -> nix::Result<()> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::EINVAL)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(Errno::EMSGSIZE);
    }
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &rights };
    let flags = flags | MsgFlags::MSG_NOSIGNAL;
    loop {
        let sent = sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], control, flags, None);
        match sent {
            Err(Errno::EINTR) => {}
            other => return other.map(drop),
        }
    }
}

/// A message, with what came with it.
#[derive(Debug)]
pub struct Received<M> {
    /// The message.
    pub message: M,
    /// Its descriptors, closed on exec.
    pub fds: Vec<OwnedFd>,
    /// Whether descriptors were lost, because this process has as many as it may.
    pub lost: bool,
}

/// Receives one message; `None` when the other end is closed.
pub fn receive<M: DeserializeOwned>(socket: BorrowedFd<'_>, flags: MsgFlags) -> nix::Result<Option<Received<M>>> {
    let mut bytes = vec![0u8; MAX_MESSAGE];
    let arrived = loop {
        match ancillary::receive(socket, &mut bytes, flags.bits()) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    if arrived.length == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&bytes[..arrived.length]).map_err(|_| Errno::EBADMSG)?;
    Ok(Some(Received {
        message,
        fds: arrived.fds,
        lost: arrived.lost,
    }))
}
