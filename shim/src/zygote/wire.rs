//! The messages between the shim's service and its zygote: one JSON object a datagram, over a
//! SOCK_SEQPACKET socket pair, with descriptors as ancillary data. Both ends are this binary.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::MsgFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_confine::line;
use tandem_engine::http::HttpLimits;

use crate::fault::Fault;

/// Number of an operation, to find the waiting caller by.
pub type Op = u64;

/// What the service asks of the zygote.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Create a container; descriptors: where the worker asks for modules ([`ModuleQuestion`]), the memory limit of its guest
    /// ([`crate::memory`]), then stdin, stdout and stderr, but for a terminal.
    Create {
        /// Operation to answer.
        op: Op,
        /// What to create.
        create: Create,
    },
    /// Execute a process in a container; descriptors: its process section ([`carry`]), then as for a Create.
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
    /// Run the `poststart` hooks of a container that was started.
    PostStart {
        /// Operation to answer.
        op: Op,
        /// Container id.
        id: String,
        /// Bundle directory.
        bundle: PathBuf,
        /// The first process.
        pid: i32,
    },
}

impl Request {
    /// Operation to answer.
    pub fn op(&self) -> Op {
        match self {
            Request::Create { op, .. }
            | Request::Exec { op, .. }
            | Request::Kill { op, .. }
            | Request::PostStart { op, .. } => *op,
        }
    }
}

/// A container to create.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Create {
    /// Container id.
    pub id: String,
    /// Bundle directory, with the spec.
    pub bundle: PathBuf,
    /// Whether systemd makes the cgroup.
    pub systemd_cgroup: bool,
    /// What clients may cost it, if it is a server.
    #[serde(default)]
    pub http_limits: HttpLimits,
}

/// A process to execute in a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Exec {
    /// Container id, for messages.
    pub id: String,
    /// The container's first process.
    pub init: i32,
    /// Bundle directory, for what the container's spec says of all its processes.
    pub bundle: PathBuf,
    /// What clients may cost it, if it is a server.
    #[serde(default)]
    pub http_limits: HttpLimits,
}

/// What a worker asks the service while it makes a process: only the service speaks with containerd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModuleQuestion {
    /// There is no file of this name: is it a layer of the image?
    Layer {
        /// The name.
        name: String,
    },
    /// The cache has no code for the layer: its bytes are needed.
    Bytes,
}

/// The service's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModuleAnswer {
    /// It is a layer.
    Layer {
        /// Its name for messages.
        name: String,
        /// Digest that its content must have (`sha256:…`).
        digest: String,
        /// Where a server listens if its environment does not say.
        http_port: u16,
    },
    /// There is none of this name.
    None,
    /// The bytes, with a descriptor.
    Bytes,
    /// That failed.
    Failed(Fault),
}

/// What the zygote, or a worker it forked, tells the service.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// A container's first process is there and waits for Start; descriptors: where a byte starts it, then the master of its
    /// terminal, if it has one. Or an exec's runs; with the master of its terminal.
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
    line::send(socket, message, fds, flags)
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
    let Some(received) = line::receive(socket, flags)? else {
        return Ok(None);
    };
    let fds = if received.lost {
        Err(Fault::exhausted(
            "the shim has as many files open as it may: raise its limit (RLIMIT_NOFILE, LimitNOFILE of containerd's service)",
        ))
    } else {
        Ok(received.fds)
    };
    let message = received.message;
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
    use std::os::fd::{AsFd, AsRawFd};

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
