//! Does with an image what a pull does, by the services that a pull uses, so that both generations of containerd
//! hold the same records for every kind of image (their `ctr images import` differ for Wasm images).

use std::collections::{BTreeMap, HashMap};

use containerd_client::{
    services::v1::{
        ApplyRequest, CreateImageRequest, CreateRequest, DeleteRequest, Image as Record, Info, UpdateImageRequest,
        UpdateRequest, WriteAction, WriteContentRequest,
        snapshots::{CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest},
    },
    types::Descriptor,
};
use serde_json::Value;
use tokio_stream::StreamExt;
use tonic::{Code, Request};

use super::{Blob, Layout, Platform, digest, media};
use crate::{Result, session::Session};

/// Bytes per message of an upload; gRPC servers refuse messages of more than 4 MiB by default.
const CHUNK: usize = 1 << 20;

/// An imported image.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Reference of the record.
    pub name: String,
    /// Digest of the record's target.
    pub digest: String,
    /// The snapshot that containers stand on; empty where the image has no layer of files.
    pub chain_id: String,
    /// Entrypoint and default arguments.
    pub args: Vec<String>,
    /// Environment, as `NAME=value`.
    pub env: Vec<String>,
    /// Working directory, where the image names one.
    pub cwd: Option<String>,
}

/// Imports an image. A layer that is not an archive of files makes no snapshot: that is the shim's to read.
///
/// # Errors
/// Where containerd refuses a blob, a layer or the record.
pub async fn import(session: &Session, layout: &Layout) -> Result<Image> {
    let import = Import {
        session,
        layout,
        lease: session.home.unique("lease"),
    };
    import.take_lease().await?;
    for blob in layout.blobs.values() {
        import.upload(blob).await?;
    }
    let image = import.unpack().await?;
    import.record().await?;
    import.drop_lease().await?;
    Ok(image)
}

struct Import<'a> {
    session: &'a Session,
    layout: &'a Layout,
    /// Holds the blobs until the record does, against containerd's garbage collector.
    lease: String,
}

impl Import<'_> {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.session.request(message);
        if let Ok(lease) = self.lease.parse() {
            request.metadata_mut().insert("containerd-lease", lease);
        }
        request
    }

    async fn take_lease(&self) -> Result<()> {
        let request = self.session.request(CreateRequest {
            id: self.lease.clone(),
            ..Default::default()
        });
        let mut leases = self.session.client().leases();
        let call = leases.create(request);
        self.session.call("leases.Create", &self.lease, call).await?;
        Ok(())
    }

    async fn drop_lease(&self) -> Result<()> {
        let request = self.session.request(DeleteRequest {
            id: self.lease.clone(),
            sync: false,
        });
        let mut leases = self.session.client().leases();
        let call = leases.delete(request);
        self.session.call("leases.Delete", &self.lease, call).await
    }

    async fn upload(&self, blob: &Blob) -> Result<()> {
        let chunks: Vec<_> = blob.data.chunks(CHUNK).map(|c| blob.data.slice_ref(c)).collect();
        let reference = format!("{}-{}", self.lease, blob.digest);
        let total = blob.data.len() as i64;
        let write = WriteContentRequest {
            action: WriteAction::Write.into(),
            r#ref: reference,
            total,
            expected: blob.digest.clone(),
            ..Default::default()
        };
        let commit = WriteContentRequest {
            action: WriteAction::Commit.into(),
            offset: total,
            labels: gc_labels(blob).into_iter().collect(),
            ..write.clone()
        };
        // The messages are made one by one: a test may upload a gigabyte.
        let mut offset = 0;
        let writes = chunks.into_iter().map(move |chunk| {
            let message = WriteContentRequest {
                offset,
                data: chunk.to_vec(),
                ..write.clone()
            };
            offset += chunk.len() as i64;
            message
        });
        let request = self.request(tokio_stream::iter(writes.chain([commit])));
        let mut content = self.session.client().content();
        let upload = async {
            let mut answers = content.write(request).await?.into_inner();
            while let Some(answer) = answers.next().await {
                answer?;
            }
            Ok(tonic::Response::new(()))
        };
        existing_is_fine(self.session.call("content.Write", &blob.digest, upload).await)?;
        Ok(())
    }

    /// The manifest that a node would run: of an index the first for this machine's Linux, else the first.
    fn manifest(&self) -> Result<&Blob> {
        let target = self.layout.target()?;
        if target.media_type != media::INDEX {
            return Ok(target);
        }
        let index = target.value();
        let manifests = index["manifests"].as_array().map_or(&[][..], Vec::as_slice);
        let Platform { os, architecture } = Platform::host();
        let fits = |manifest: &&Value| {
            let platform = &manifest["platform"];
            platform["os"] == os.as_str() && platform["architecture"] == architecture.as_str()
        };
        let chosen = manifests.iter().find(fits).or(manifests.first());
        let digest = chosen.and_then(|manifest| manifest["digest"].as_str());
        self.layout.blob(digest.unwrap_or("of an empty index"))
    }

    async fn unpack(&self) -> Result<Image> {
        let manifest = self.manifest()?.value();
        let mut chain_id = String::new();
        for layer in manifest["layers"].as_array().into_iter().flatten() {
            let layer = descriptor(layer);
            if is_archive(&layer.media_type) {
                chain_id = self.apply(layer, chain_id).await?;
            }
        }
        let config = descriptor(&manifest["config"]);
        if !chain_id.is_empty() {
            self.keep_snapshot(&config.digest, &chain_id).await?;
        }
        let config = self.layout.blob(&config.digest).map(Blob::value);
        let process = config.map(|config| config["config"].clone()).unwrap_or_default();
        let mut args = strings(&process["Entrypoint"]);
        args.extend(strings(&process["Cmd"]));
        Ok(Image {
            name: self.layout.name.clone(),
            digest: self.layout.target.clone(),
            chain_id,
            args,
            env: strings(&process["Env"]),
            cwd: process["WorkingDir"].as_str().map(str::to_owned),
        })
    }

    /// Unpacks a layer onto the snapshot `parent`; answers the chain id of the snapshot with it.
    async fn apply(&self, layer: Descriptor, parent: String) -> Result<String> {
        let session = self.session;
        let name = layer.digest.clone();
        let snapshotter = session.snapshotter.to_owned();
        let key = session.home.unique("extract-");
        let mut snapshots = session.client().snapshots();
        let request = self.request(PrepareSnapshotRequest {
            snapshotter: snapshotter.clone(),
            key: key.clone(),
            parent: parent.clone(),
            ..Default::default()
        });
        let call = snapshots.prepare(request);
        let mounts = session.call("snapshots.Prepare", &key, call).await?.mounts;

        let request = self.request(ApplyRequest {
            diff: Some(layer),
            mounts,
            ..Default::default()
        });
        let mut diff = session.client().diff();
        let call = diff.apply(request);
        let applied = session.call("diff.Apply", &name, call).await?.applied;
        let diff_id = applied.unwrap_or_default().digest;
        let chain_id = if parent.is_empty() {
            diff_id
        } else {
            digest(format!("{parent} {diff_id}").as_bytes())
        };

        let request = self.request(CommitSnapshotRequest {
            snapshotter: snapshotter.clone(),
            name: chain_id.clone(),
            key: key.clone(),
            ..Default::default()
        });
        let call = snapshots.commit(request);
        let commit = session.call("snapshots.Commit", &chain_id, call).await;
        if existing_is_fine(commit)?.is_none() {
            // Another image has this layer; ours is not needed.
            let request = self.request(RemoveSnapshotRequest {
                snapshotter,
                key: key.clone(),
            });
            let call = snapshots.remove(request);
            session.call("snapshots.Remove", &key, call).await?;
        }
        Ok(chain_id)
    }

    /// Ties the snapshot to the image's config, as a pull does.
    async fn keep_snapshot(&self, config: &str, chain_id: &str) -> Result<()> {
        let label = format!("containerd.io/gc.ref.snapshot.{}", self.session.snapshotter);
        let request = self.request(UpdateRequest {
            info: Some(Info {
                digest: config.to_owned(),
                labels: HashMap::from([(label.clone(), chain_id.to_owned())]),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec![format!("labels.{label}")],
            }),
        });
        let mut content = self.session.client().content();
        let call = content.update(request);
        self.session.call("content.Update", config, call).await?;
        Ok(())
    }

    async fn record(&self) -> Result<()> {
        let target = self.layout.target()?;
        let image = Some(Record {
            name: self.layout.name.clone(),
            target: Some(descriptor(&target.descriptor())),
            ..Default::default()
        });
        let name = &self.layout.name;
        let mut images = self.session.client().images();
        let request = self.request(CreateImageRequest {
            image: image.clone(),
            ..Default::default()
        });
        let call = images.create(request);
        if existing_is_fine(self.session.call("images.Create", name, call).await)?.is_none() {
            // The name now means the new image, as after a second pull of a tag that has moved.
            let request = self.request(UpdateImageRequest {
                image,
                ..Default::default()
            });
            let call = images.update(request);
            self.session.call("images.Update", name, call).await?;
        }
        Ok(())
    }
}

/// `None` where the thing existed already.
fn existing_is_fine<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code() == Some(Code::AlreadyExists) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The labels by which containerd's garbage collector finds what a blob refers to, as containerd's `ChildGCLabels`
/// (`core/images/mediatypes.go`) makes them.
fn gc_labels(blob: &Blob) -> BTreeMap<String, String> {
    const PREFIX: &str = "containerd.io/gc.ref.content.";
    let mut children = Vec::new();
    match blob.media_type.as_str() {
        media::INDEX => {
            let index = blob.value();
            children.extend(index["manifests"].as_array().into_iter().flatten().cloned());
        }
        media::MANIFEST => {
            let manifest = blob.value();
            children.push(manifest["config"].clone());
            children.extend(manifest["layers"].as_array().into_iter().flatten().cloned());
        }
        _ => {}
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut labels = BTreeMap::new();
    for child in children {
        let child = descriptor(&child);
        let class = match child.media_type.as_str() {
            media::CONFIG => {
                labels.insert(format!("{PREFIX}config"), child.digest);
                continue;
            }
            media::MANIFEST => "m.",
            layer if is_archive(layer) => "l.",
            _ => "",
        };
        let count = counts.entry(class).or_default();
        labels.insert(format!("{PREFIX}{class}{count}"), child.digest);
        *count += 1;
    }
    labels
}

/// Whether containerd unpacks such a layer.
fn is_archive(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.oci.image.layer.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.")
}

fn descriptor(value: &Value) -> Descriptor {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Descriptor {
        media_type: text("mediaType"),
        digest: text("digest"),
        size: value["size"].as_i64().unwrap_or_default(),
        ..Default::default()
    }
}

fn strings(value: &Value) -> Vec<String> {
    let values = value.as_array().into_iter().flatten();
    values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

impl Image {
    /// An image that something else imported (`ctr`, CRI): its record's name and the snapshot to stand on, empty
    /// for none.
    pub fn known(name: &str, chain_id: &str) -> Self {
        Self {
            name: name.into(),
            chain_id: chain_id.into(),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{ImageBuilder, Rootfs, oci_artifact};

    fn labels(layout: &Layout) -> Vec<String> {
        gc_labels(layout.target().unwrap()).into_keys().collect()
    }

    #[test]
    fn the_labels_against_garbage_collection_are_containerds() {
        let content = |suffix| format!("containerd.io/gc.ref.content.{suffix}");
        let classic = ImageBuilder::new("x").files(&Rootfs::new(), Default::default());
        let classic = classic.unwrap().build();
        assert_eq!(labels(&classic), [content("config"), content("l.0")]);
        assert_eq!(labels(&oci_artifact("x", b"")), [content("0"), content("1")]);
    }
}
