//! containerd's answers to the questions of resolution: one small method per question.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use containerd_client::services::v1 as api;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::introspection_client::IntrospectionClient;
use containerd_client::services::v1::snapshots::StatSnapshotRequest;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::tonic::Status;
use tokio::sync::OnceCell;

use crate::connection::Connection;
use crate::content::{self, Roots};
use crate::evidence::Evidence;
use crate::link::{Link, failed, found};
use crate::manifest::{self, Descriptor};
use crate::source::{Container, Source};
use crate::{Digest, ErrorKind, ImageError, MAX_DOCUMENT_BYTES, WasmLayer, blob};

/// Where CRI keeps its metadata of a container (containerd 1.6 to 2.x).
const CRI_METADATA: &str = "io.cri-containerd.container.metadata";
/// Largest container record accepted, in bytes: containerd's own limit on messages
/// (`defaults.DefaultMaxRecvMsgSize`).
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Most images considered that share a chain ID or a config; a node has a handful.
const MAX_MATCHES: usize = 64;

/// One containerd and one namespace of it.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    roots: OnceCell<Roots>,
}

impl Store {
    /// Nothing is connected yet.
    pub fn new(address: PathBuf, namespace: String) -> Self {
        Self {
            connection: Connection::new(address, namespace),
            roots: OnceCell::new(),
        }
    }

    /// The socket's path, for messages.
    pub fn address(&self) -> String {
        self.connection.address()
    }

    /// A layer's bytes, read-only and verified.
    pub async fn open(&self, layer: &WasmLayer) -> Result<File, ImageError> {
        let link = self.link().await?;
        blob::open(&link, self.roots(&link).await, layer).await
    }

    async fn link(&self) -> Result<Arc<Link>, ImageError> {
        self.connection.link().await
    }

    /// The content store's directories. Not knowing them costs time only, so a failure is not an error; the next
    /// question asks again.
    async fn roots(&self, link: &Link) -> Option<&Roots> {
        let ask = || async {
            let filters = vec!["type==io.containerd.content.v1".into()];
            let request = link.request(api::PluginsRequest { filters });
            let answer = IntrospectionClient::new(link.channel.clone()).plugins(request).await?;
            let plugins = answer.into_inner().plugins.into_iter();
            let roots = plugins.filter_map(|mut plugin| plugin.exports.remove("root"));
            let roots = roots.map(PathBuf::from).filter(|root| root.is_absolute());
            Ok::<_, Status>(Roots(roots.collect()))
        };
        self.roots.get_or_try_init(ask).await.ok()
    }

    /// A document from the content service; None if it is not stored.
    async fn fetch(&self, image: &str, digest: &Digest) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(mut blob) = self.link().await?.read(digest).await? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        while let Some(part) = blob.next().await? {
            bytes.extend_from_slice(&part);
            check_limit(image, digest, bytes.len() as u64)?;
        }
        Ok(Some(bytes))
    }
}

impl Source for Store {
    async fn container(&self, id: &str) -> Result<Container, ImageError> {
        let link = self.link().await?;
        let mut client = ContainersClient::new(link.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let request = link.request(api::GetContainerRequest { id: id.into() });
        let (answer, _) = tokio::join!(client.get(request), self.roots(&link));
        let record = answer
            .map_err(|status| failed("Containers.Get", id, &status))?
            .into_inner()
            .container
            .unwrap_or_default();
        let metadata = record.extensions.get(CRI_METADATA);
        Ok(Container {
            image: record.image,
            snapshotter: record.snapshotter,
            snapshot_key: record.snapshot_key,
            cri_image_id: metadata.and_then(|any| manifest::cri_image_id(&any.value)),
        })
    }

    async fn target(&self, name: &str) -> Result<Option<Descriptor>, ImageError> {
        const CALL: &str = "Images.Get";
        let link = self.link().await?;
        let request = link.request(api::GetImageRequest { name: name.into() });
        let answer = ImagesClient::new(link.channel.clone()).get(request).await;
        let Some(answer) = found(answer, CALL, name)? else {
            return Ok(None);
        };
        let wrong = |reason: &str| ImageError::Call {
            call: CALL,
            object: name.into(),
            reason: reason.into(),
            kind: ErrorKind::Internal,
        };
        let target = answer
            .image
            .and_then(|image| image.target)
            .ok_or_else(|| wrong("the record has no target"))?;
        Ok(Some(Descriptor {
            media_type: target.media_type,
            digest: Digest::try_from(target.digest).map_err(|e| wrong(&e.to_string()))?,
            size: u64::try_from(target.size).map_err(|_| wrong("the target's size is negative"))?,
            platform: None,
        }))
    }

    async fn evidence(&self, container: &Container) -> Result<Evidence, ImageError> {
        if container.snapshot_key.is_empty() {
            return Ok(Evidence::Nothing);
        }
        let link = self.link().await?;
        let request = link.request(StatSnapshotRequest {
            snapshotter: container.snapshotter.clone(),
            key: container.snapshot_key.clone(),
        });
        let answer = SnapshotsClient::new(link.channel.clone())
            .stat(request)
            .await
            .map_err(|status| failed("Snapshots.Stat", &container.snapshot_key, &status))?;
        let info = answer.into_inner().info.unwrap_or_default();
        Ok(Evidence::from_parent(&info.parent))
    }

    async fn document(&self, image: &str, digest: &Digest) -> Result<Option<Vec<u8>>, ImageError> {
        let link = self.link().await?;
        let roots = self.roots(&link).await;
        let bytes = match roots.and_then(|roots| roots.open(digest)) {
            Some((file, size)) => {
                check_limit(image, digest, size)?;
                let bytes = content::read_all(file, MAX_DOCUMENT_BYTES);
                bytes.map_err(|source| ImageError::Io {
                    image: image.into(),
                    digest: *digest,
                    action: "read the content store",
                    source,
                })?
            }
            None => match self.fetch(image, digest).await? {
                Some(bytes) => bytes,
                None => return Ok(None),
            },
        };
        match Digest::of(&bytes) {
            found if found == *digest => Ok(Some(bytes)),
            found => Err(ImageError::Corrupt {
                image: image.into(),
                digest: *digest,
                reason: format!("its digest is {found}"),
            }),
        }
    }

    async fn configs_of_chain(&self, snapshotter: &str, chain: &Digest) -> Result<Vec<Digest>, ImageError> {
        if snapshotter.contains(['"', '\\']) {
            return Ok(Vec::new());
        }
        // Written when an image is unpacked (containerd 1.6 to 2.x).
        let label = format!("containerd.io/gc.ref.snapshot.{snapshotter}");
        let filter = format!(r#"labels."{label}"=="{chain}""#);
        self.link().await?.list(vec![filter], MAX_MATCHES).await
    }

    async fn manifests_of_config(&self, config: &Digest) -> Result<Vec<Digest>, ImageError> {
        // A manifest's label for its config: `config` if that has an image's type; else it is numbered among the
        // children without a special type, and the config is the first child.
        let filter = |end| format!(r#"labels."containerd.io/gc.ref.content.{end}"=="{config}""#);
        let filters = vec![filter("config"), filter("0")];
        self.link().await?.list(filters, MAX_MATCHES).await
    }
}

fn check_limit(image: &str, digest: &Digest, size: u64) -> Result<(), ImageError> {
    if size <= MAX_DOCUMENT_BYTES {
        return Ok(());
    }
    Err(ImageError::TooLarge {
        image: image.into(),
        digest: *digest,
        size,
        limit: MAX_DOCUMENT_BYTES,
    })
}
