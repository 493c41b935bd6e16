//! The crate's front: one resolver per shim, asked once per container.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use crate::store::Store;
use crate::{Digest, ImageError, resolve};

/// Longest that [`Resolver::resolve`] may take: far more than a loaded node needs, less than the two minutes after
/// which a kubelet gives up a call and leaves a half-made container behind.
const DEADLINE: Duration = Duration::from_secs(10);

/// Finds the module of a container's image by asking containerd.
///
/// The connection is made at the first question, kept, and made anew after a restart of containerd. It lives on the
/// tokio runtime of that first question, which needs its I/O and time drivers. An open connection costs memory in
/// containerd as well as here: drop the resolver of a pod that has all of its containers.
#[derive(Debug)]
pub struct Resolver {
    store: Store,
}

/// What a container's image holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// No Wasm layer: what there is to run lies in the root file system.
    NoWasm {
        /// Name of the image; empty for a container without one.
        image: String,
    },
    /// A Wasm layer.
    Module(WasmLayer),
}

/// A Wasm layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasmLayer {
    /// Digest of the module's bytes, by which compiled code can be looked up.
    pub digest: Digest,
    /// Size in bytes, at most [`MAX_MODULE_BYTES`](crate::MAX_MODULE_BYTES).
    pub size: u64,
    /// Media type, as the manifest says.
    pub media_type: String,
    /// Name of the image, for messages.
    pub image: String,
    /// Whether the image says that it is an application for Spin.
    pub spin: bool,
}

impl Resolution {
    /// The module's digest.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::NoWasm { .. } => None,
            Self::Module(layer) => Some(&layer.digest),
        }
    }
}

impl Resolver {
    /// For the containerd that listens on this unix socket (its gRPC one, not its ttrpc one), in this namespace.
    /// Nothing is connected yet.
    pub fn new(address: impl Into<PathBuf>, namespace: impl Into<String>) -> Self {
        Self {
            store: Store::new(address.into(), namespace.into()),
        }
    }

    /// Finds the module of the image that the container was made from.
    ///
    /// [`ImageError::Retagged`] and [`ImageError::ImageGone`] say that the image cannot be known any more, not that it
    /// has a module: a caller that finds something to run in the root file system may go on with that.
    pub async fn resolve(&self, container_id: &str) -> Result<Resolution, ImageError> {
        tokio::time::timeout(DEADLINE, resolve::resolve(&self.store, container_id))
            .await
            .unwrap_or_else(|_| {
                Err(ImageError::Timeout {
                    address: self.store.address(),
                    container: container_id.into(),
                    seconds: DEADLINE.as_secs(),
                })
            })
    }

    /// Opens the module's bytes, read-only and at offset 0, verified against the digest: the content store's own file
    /// where it has one, else a copy without a name. The descriptor stays valid if the image is removed meanwhile.
    ///
    /// Hashing 40 MB takes some 30 ms, next to which compiling them takes seconds; it is done on another thread.
    pub async fn open(&self, layer: &WasmLayer) -> Result<File, ImageError> {
        self.store.open(layer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_can_be_asked_from_tasks_that_move_between_threads() {
        fn movable<T: Send>(_: &T) {}
        let resolver = Resolver::new("/nonexistent/containerd.sock", "ns");
        let layer = WasmLayer {
            digest: Digest::of(b""),
            size: 0,
            media_type: String::new(),
            image: String::new(),
            spin: false,
        };
        movable(&resolver);
        movable(&resolver.resolve("c1"));
        movable(&resolver.open(&layer));
    }
}
