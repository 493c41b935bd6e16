//! The messages between the shim's service and its zygote: one JSON object a datagram, over a
//! SOCK_SEQPACKET socket pair, with descriptors as ancillary data. Both ends are this binary.

use std::fs::File;
use std::io::{IoSlice, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_engine::http::HttpLimits;

use super::ancillary;
use crate::fault::Fault;

/// Longest message: paths and an error text. A longer text is cut before it is sent.
const MAX_MESSAGE: usize = 64 * 1024;

/// Number of an operation, to find the waiting caller by.
pub type Op = u64;

/// What the service asks of the zygote.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Create a container; descriptors: stdin, stdout, stderr (none of them with a terminal) and, for Wasm, the memory
    /// limit ([`crate::memory`]) and the module, unless its digest may do ([`Report::NeedsModule`]).
    Create {
        /// Operation to answer.
        op: Op,
        /// What to create.
        create: Create,
    },
    /// Execute a process in a container; descriptors: its process section ([`carry`]), and as for a Create.
    Exec {
        /// Operation to answer.
        op: Op,
        /// What to execute.
        exec: Exec,
    },
    /// Send a signal to a process that the zygote is the parent of.
    Kill {
        /// Operation to answer.
        op: Op,
        /// The process.
        pid: i32,
        /// The signal's number.
        signal: i32,
    },
    /// Let a created container run and run its poststart hooks.
    StartWithHooks {
        /// Operation to answer.
        op: Op,
        /// The container's state directory.
        state: PathBuf,
    },
}

impl Request {
    /// Operation to answer.
    pub fn op(&self) -> Op {
        match self {
            Request::Create { op, .. }
            | Request::Exec { op, .. }
            | Request::Kill { op, .. }
            | Request::StartWithHooks { op, .. } => *op,
        }
    }
}

/// A container to create.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Create {
    /// Container id.
    pub id: String,
    /// Bundle directory; libcontainer reads the spec from it.
    pub bundle: PathBuf,
    /// Directory in which libcontainer makes the container's state directory.
    pub state_root: PathBuf,
    /// Whether systemd makes the cgroup.
    pub systemd_cgroup: bool,
    /// Whether its streams are a terminal, whose master is to come with the answer.
    pub terminal: bool,
    /// What runs in it.
    pub workload: Workload,
    /// What clients may cost it, if it is a server.
    #[serde(default)]
    pub http_limits: HttpLimits,
}

/// A process to execute in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exec {
    /// Container id, for messages.
    pub id: String,
    /// The process's name, for messages.
    pub exec_id: String,
    /// The container's first process.
    pub init: i32,
    /// Bundle directory, for what the container's spec says of all its processes.
    pub bundle: PathBuf,
    /// Whether its streams are a terminal, whose master is to come with the answer.
    pub terminal: bool,
    /// What runs.
    pub workload: Workload,
    /// What clients may cost it, if it is a server.
    #[serde(default)]
    pub http_limits: HttpLimits,
}

/// What runs in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Workload {
    /// `process.args` by execve.
    Linux,
    /// A Wasm module or component.
    Wasm {
        /// Name for messages.
        name: String,
        /// Export to call.
        export: Option<String>,
        /// Digest that the content must have (`sha256:…`), for a layer of the image.
        digest: Option<String>,
        /// Where a server listens if its environment does not say.
        http_port: u16,
    },
}

/// What the zygote, or a worker it forked, tells the service.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// A container's first process is there and waits for Start, or an exec's runs. With a terminal its master comes
    /// with it.
    Created {
        /// The operation.
        op: Op,
        /// The process, in the host's PID namespace.
        pid: i32,
    },
    /// An operation without a result succeeded.
    Done {
        /// The operation.
        op: Op,
    },
    /// The cache has no code for the module's digest: ask again with the module.
    NeedsModule {
        /// The operation.
        op: Op,
    },
    /// An operation failed.
    Failed {
        /// The operation.
        op: Op,
        /// Why.
        fault: Fault,
    },
    /// A process ended.
    Exited {
        /// The process.
        pid: i32,
        /// Its exit code, or 128 + signal.
        status: u32,
    },
    /// The worker of an operation ended; if it has not answered before, it never will.
    WorkerGone {
        /// The operation.
        op: Op,
    },
}

/// A descriptor that carries bytes which may be too many for a message: an environment alone may be.
pub fn carry(bytes: &[u8]) -> Result<OwnedFd, Fault> {
    let fault = |error: std::io::Error| Fault::exhausted(format!("cannot pass on a process section: {error}"));
    let fd = memfd_create(c"process", MFdFlags::MFD_CLOEXEC).map_err(|errno| fault(errno.into()))?;
    let mut file = File::from(fd);
    file.write_all(bytes).and_then(|()| file.rewind()).map_err(fault)?;
    Ok(file.into())
}

/// Sends `message` with `fds`. Blocks unless `flags` say otherwise.
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
    /// Its descriptors; none, if any of them could not be taken in.
    pub fds: std::result::Result<Vec<OwnedFd>, Fault>,
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
    let message = parse(&bytes[..arrived.length])?;
    let fds = if arrived.lost {
        Err(Fault::exhausted(
            "the shim has as many files open as it may: raise its limit (RLIMIT_NOFILE, LimitNOFILE of containerd's service)",
        ))
    } else {
        Ok(arrived.fds)
    };
    Ok(Some(Received { message, fds }))
}

/// Reads a message's bytes.
pub fn parse<M: DeserializeOwned>(bytes: &[u8]) -> nix::Result<M> {
    serde_json::from_slice(bytes).map_err(|_| Errno::EBADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::os::fd::AsFd;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let (read, write) = nix::unistd::pipe().unwrap();
        let request = Request::Kill {
            op: 7,
            pid: 1,
            signal: 9,
        };
        send(a.as_fd(), &request, &[write.as_raw_fd()], MsgFlags::empty()).unwrap();
        drop(write);
        let received = receive::<Request>(b.as_fd(), MsgFlags::empty()).unwrap().unwrap();
        assert!(matches!(received.message, Request::Kill { op: 7, .. }));
        let write = received.fds.unwrap().remove(0);
        std::fs::File::from(write).write_all(b"x").unwrap();
        let mut byte = [0];
        nix::unistd::read(&read, &mut byte).unwrap();
        assert_eq!(&byte, b"x");
        drop(a);
        assert!(receive::<Request>(b.as_fd(), MsgFlags::empty()).unwrap().is_none());
    }
}
