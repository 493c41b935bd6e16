//! The service's end of the line to the zygote.

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::state::{State, Target};
use crate::fault::{Fault, Result};
use crate::zygote::wire::{self, Op, Report, Request};

/// Sends requests; the reports come in on a task of their own.
#[derive(Clone)]
pub struct ZygoteLink {
    socket: Arc<AsyncFd<OwnedFd>>,
    state: Arc<State>,
}

impl ZygoteLink {
    /// Starts reading reports into `state` on the current runtime. `gone` is called when the zygote is.
    pub fn new(socket: OwnedFd, state: Arc<State>, gone: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        // SAFETY: the descriptor is open, and owned by what is registered for as long as it is.
        let socket = Arc::new(unsafe { AsyncFd::register(socket) }?);
        let link = Self { socket, state };
        let reader = link.clone();
        tokio::spawn(async move {
            reader.read_reports().await;
            reader.state.lock().fail_all(&Fault::internal("the shim's zygote died"));
            gone();
        });
        Ok(link)
    }

    async fn read_reports(&self) {
        loop {
            let received = self
                .socket
                .async_io(Interest::READABLE, |fd| {
                    wire::receive::<Report>(fd.as_fd(), MsgFlags::MSG_DONTWAIT).map_err(Into::into)
                })
                .await;
            match received {
                // A terminal that was lost for want of descriptors is missed where it is looked for.
                Ok(Some(received)) => self.state.take(received.message, received.fds.unwrap_or_default()),
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "cannot read from the zygote");
                    return;
                }
            }
        }
    }

    /// Sends the request that `request` makes of a new operation's number, and waits for its answer.
    pub async fn ask(&self, target: Option<Target>, request: impl FnOnce(Op) -> Request, fds: &[RawFd]) -> Result<()> {
        let (op, answered) = self.state.lock().begin(target);
        let request = request(op);
        let sent = self
            .socket
            .async_io(Interest::WRITABLE, |fd| {
                wire::send(fd.as_fd(), &request, fds, MsgFlags::MSG_DONTWAIT).map_err(Into::into)
            })
            .await;
        if let Err(error) = sent {
            let why = if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) {
                "the request is too large"
            } else {
                "the zygote cannot be reached"
            };
            let fault = Fault::internal(format!("{why}: {error}"));
            self.state.lock().answer(op, Err(fault.clone()));
            return Err(fault);
        }
        answered
            .await
            .unwrap_or_else(|_| Err(Fault::internal("the call was abandoned")))
    }
}
