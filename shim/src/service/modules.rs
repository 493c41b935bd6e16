//! What the workers ask while they make a process: whether a name is a layer of the container's image, and its bytes. Only
//! the service speaks with containerd, and only if there is no such file in the container.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use tandem_engine::http::{DEFAULT_PORT, SPIN_PORT};
use tandem_image::{ErrorKind, ImageError, Resolution, WasmLayer};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Service;
use super::container::OwnModule;
use super::state::Target;
use crate::entry;
use crate::fault::{Fault, Kind, Result};
use crate::zygote::wire::{self, ModuleAnswer, ModuleQuestion};

/// Both ends of a line for questions: the service's, and the worker's.
pub fn line() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|errno| Fault::exhausted(format!("cannot make a socket pair: {errno}")))
}

/// Answers until the worker has no more questions.
pub async fn answer(service: Service, target: Target, line: OwnedFd) {
    // SAFETY: the descriptor is open, and owned by what is registered for as long as it is.
    let line = match unsafe { AsyncFd::register(line) } {
        Ok(line) => line,
        Err(error) => return tracing::error!(%error, "cannot watch the questions of a worker"),
    };
    let mut layer = None;
    loop {
        let received = line
            .async_io(Interest::READABLE, |fd| {
                wire::receive::<ModuleQuestion>(fd.as_fd(), MsgFlags::MSG_DONTWAIT).map_err(Into::into)
            })
            .await;
        let Ok(Some(received)) = received else { return };
        let answered = match received.message {
            ModuleQuestion::Layer { name } => service.find_layer(&target, &name, &mut layer).await,
            ModuleQuestion::Bytes => service.open_layer(layer.as_ref()).await,
        };
        let (answer, file) = answered.unwrap_or_else(|fault| (ModuleAnswer::Failed(fault), None));
        let fds: Vec<RawFd> = file.iter().map(AsRawFd::as_raw_fd).collect();
        let sent = line
            .async_io(Interest::WRITABLE, |fd| {
                wire::send(fd.as_fd(), &answer, &fds, MsgFlags::MSG_DONTWAIT).map_err(Into::into)
            })
            .await;
        if sent.is_err() {
            return;
        }
    }
}

type Answered = Result<(ModuleAnswer, Option<OwnedFd>)>;

impl Service {
    /// The layer that `name` stands for: of a container's first process whatever layer its image has, and of a process that
    /// is executed in it the container's own module, if it has the same name.
    async fn find_layer(&self, target: &Target, name: &str, found: &mut Option<WasmLayer>) -> Answered {
        let layer = match target {
            Target::Container(id) => self.layer_of_image(id, name).await?,
            Target::Exec { container: id, .. } => {
                let state = self.state.lock();
                let container = state.container(id)?;
                let own = container.bundle.args().first().map(|arg| entry::split(arg).0);
                match &container.module {
                    Some(module) if own == Some(name) => module.layer.clone(),
                    _ => return Ok((ModuleAnswer::None, None)),
                }
            }
        };
        let answer = ModuleAnswer::Layer {
            name: format!("Wasm layer {} of image {}", layer.digest, layer.image.escape_debug()),
            digest: layer.digest.to_string(),
            http_port: if layer.spin { SPIN_PORT } else { DEFAULT_PORT },
        };
        *found = Some(layer);
        Ok((answer, None))
    }

    async fn layer_of_image(&self, id: &str, name: &str) -> Result<WasmLayer> {
        match self.images.resolve(id).await.map_err(image_fault)? {
            Resolution::Module(layer) => {
                let own = OwnModule { layer: layer.clone() };
                self.state.lock().container_mut(id)?.module = Some(own);
                Ok(layer)
            }
            Resolution::NoWasm { image } => Err(Fault::not_found(format!(
                "exec: \"{}\": no such file or directory in the container: the entrypoint is not in the root file system of image {}, which has no Wasm layer either; correct the image's entrypoint or the pod's command",
                name.escape_debug(),
                image.escape_debug()
            ))),
        }
    }

    async fn open_layer(&self, layer: Option<&WasmLayer>) -> Answered {
        let layer = layer.ok_or_else(|| Fault::internal("the bytes of a layer were asked for before its name"))?;
        let file = self.images.open(layer).await.map_err(image_fault)?;
        Ok((ModuleAnswer::Bytes, Some(file.into())))
    }
}

fn image_fault(error: ImageError) -> Fault {
    let kind = match error.kind() {
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::InvalidArgument => Kind::InvalidArgument,
        ErrorKind::FailedPrecondition => Kind::FailedPrecondition,
        ErrorKind::Unavailable => Kind::Unavailable,
        ErrorKind::Internal => Kind::Internal,
    };
    Fault {
        kind,
        message: crate::fault::chain(&error),
    }
}
