//! What resolution needs to ask, apart from how containerd is asked: so that the rules are testable without it.

use std::future::Future;

use crate::evidence::Evidence;
use crate::manifest::Descriptor;

use crate::{Digest, ImageError};

/// containerd's record of a container, as far as it matters here.
#[derive(Debug, Clone, Default)]
pub struct Container {
    /// Name of the image; empty for a container without one.
    pub image: String,
    /// Name of the snapshotter that holds its root file system.
    pub snapshotter: String,
    /// Name of its snapshot; empty if it has none.
    pub snapshot_key: String,
    /// CRI's image id, if CRI made the container.
    pub cri_image_id: Option<Digest>,
}

/// Answers about containers, images, snapshots and content. `Send`, because the services that call run on `Send` tasks.
pub trait Source: Sync {
    /// The container's record. Also gets ready for [`Self::blob`], at the same time.
    fn container(&self, id: &str) -> impl Future<Output = Result<Container, ImageError>> + Send;

    /// What an image's name stands for now; None for an unknown name.
    fn target(&self, name: &str) -> impl Future<Output = Result<Option<Descriptor>, ImageError>> + Send;

    /// What the container's snapshot was made from.
    fn evidence(&self, container: &Container) -> impl Future<Output = Result<Evidence, ImageError>> + Send;

    /// A small document's bytes, verified against its digest; None if it is not stored. `image` is for errors.
    fn document(
        &self,
        image: &str,
        digest: &Digest,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, ImageError>> + Send;

    /// Digests of the configs whose image was unpacked to this chain ID in this snapshotter.
    fn configs_of_chain(
        &self,
        snapshotter: &str,
        chain: &Digest,
    ) -> impl Future<Output = Result<Vec<Digest>, ImageError>> + Send;

    /// Digests of the manifests that may have this config.
    fn manifests_of_config(&self, config: &Digest) -> impl Future<Output = Result<Vec<Digest>, ImageError>> + Send;
}
