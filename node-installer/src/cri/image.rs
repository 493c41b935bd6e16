//! The probe's image: made here, byte for byte the same on every node, and handed to containerd without a registry.

use std::collections::HashMap;

use containerd_client::{
    services::v1::{
        CreateImageRequest, CreateRequest, DeleteImageRequest, DeleteRequest, Image, UpdateImageRequest, WriteAction,
        WriteContentRequest, content_client::ContentClient, images_client::ImagesClient, leases_client::LeasesClient,
    },
    types::Descriptor,
};
use serde_json::{Value, json};
use tonic::{Code, Request, transport::Channel};

use crate::{
    error::{Error, Result},
    txn::digest,
};

/// The namespace of CRI's images and containers.
const NAMESPACE: &str = "k8s.io";
/// The probe's module.
const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe.wasm"));
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

struct Blob {
    media_type: &'static str,
    digest: String,
    bytes: Vec<u8>,
    /// Labels by which containerd's garbage collector finds what the blob refers to.
    labels: HashMap<String, String>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            media_type,
            digest: format!("sha256:{}", digest(&bytes)),
            bytes,
            labels: HashMap::new(),
        }
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// The image as a pull would leave it in containerd.
pub(super) struct ProbeImage {
    /// Its reference.
    pub name: String,
    blobs: Vec<Blob>,
}

impl ProbeImage {
    /// Makes the image for this machine's architecture.
    pub fn new() -> Result<Self> {
        let mut header = tar::Header::new_ustar();
        header.set_size(PROBE.len() as u64);
        header.set_mode(0o755);
        let mut archive = tar::Builder::new(Vec::new());
        let layer = archive
            .append_data(&mut header, "probe.wasm", PROBE)
            .and_then(|()| archive.into_inner());
        let layer = Blob::new(LAYER, layer.map_err(Error::io("archive", "probe.wasm"))?);
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Entrypoint": ["/probe.wasm"] },
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        });
        let config = Blob::new(CONFIG, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        });
        let mut manifest = Blob::new(MANIFEST, manifest.to_string().into_bytes());
        let label = |kind: &str| format!("containerd.io/gc.ref.content.{kind}");
        manifest.labels.insert(label("config"), config.digest.clone());
        manifest.labels.insert(label("l.0"), layer.digest.clone());
        Ok(Self {
            name: format!("tandem.dev/probe:{}", &manifest.digest["sha256:".len()..][..12]),
            blobs: vec![layer, config, manifest],
        })
    }

    /// Gives the image to containerd, which unpacks it when a container is made of it.
    pub async fn import(&self, channel: &Channel) -> Result<()> {
        let lease = format!("{}-{}", self.name, std::process::id());
        let request = CreateRequest {
            id: lease.clone(),
            labels: HashMap::new(),
        };
        let mut leases = LeasesClient::new(channel.clone());
        known_is_fine(leases.create(with_namespace(request, None)).await, "leases.Create")?;
        let result = self.write(channel, &lease).await;
        let request = DeleteRequest { id: lease, sync: false };
        let released = leases
            .delete(with_namespace(request, None))
            .await
            .map_err(Error::call("leases.Delete"));
        result?;
        released?;
        Ok(())
    }

    async fn write(&self, channel: &Channel, lease: &str) -> Result<()> {
        let mut content = ContentClient::new(channel.clone());
        for blob in &self.blobs {
            let total = blob.bytes.len() as i64;
            let message = WriteContentRequest {
                action: WriteAction::Commit.into(),
                r#ref: format!("{}-{}", self.name, blob.digest),
                total,
                expected: blob.digest.clone(),
                offset: 0,
                data: blob.bytes.clone(),
                labels: blob.labels.clone(),
            };
            let request = with_namespace(tokio_stream::iter([message]), Some(lease));
            // A blob that is there already is told before or within the stream.
            let mut answers = match content.write(request).await {
                Ok(answers) => answers.into_inner(),
                Err(status) if status.code() == Code::AlreadyExists => continue,
                Err(status) => return Err(Error::call("content.Write")(status)),
            };
            loop {
                match answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(status) if status.code() == Code::AlreadyExists => break,
                    Err(status) => return Err(Error::call("content.Write")(status)),
                }
            }
        }
        let target = self.blobs.last().map(|manifest| Descriptor {
            media_type: manifest.media_type.into(),
            digest: manifest.digest.clone(),
            size: manifest.bytes.len() as i64,
            annotations: HashMap::new(),
        });
        let image = Image {
            name: self.name.clone(),
            target,
            ..Default::default()
        };
        let mut images = ImagesClient::new(channel.clone());
        let request = CreateImageRequest {
            image: Some(image.clone()),
            source_date_epoch: None,
        };
        if known_is_fine(
            images.create(with_namespace(request, Some(lease))).await,
            "images.Create",
        )? {
            return Ok(());
        }
        let request = UpdateImageRequest {
            image: Some(image),
            update_mask: None,
            source_date_epoch: None,
        };
        let update = images.update(with_namespace(request, Some(lease))).await;
        update.map_err(Error::call("images.Update"))?;
        Ok(())
    }

    /// Takes the image away again; its absence is fine.
    pub async fn remove(&self, channel: &Channel) -> Result<()> {
        let request = DeleteImageRequest {
            name: self.name.clone(),
            sync: true,
            target: None,
        };
        match ImagesClient::new(channel.clone())
            .delete(with_namespace(request, None))
            .await
        {
            Err(status) if status.code() != Code::NotFound => Err(Error::call("images.Delete")(status)),
            _ => Ok(()),
        }
    }
}

/// Answers whether the thing is new.
fn known_is_fine<T>(answer: Result<T, tonic::Status>, call: &'static str) -> Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::AlreadyExists => Ok(false),
        Err(status) => Err(Error::call(call)(status)),
    }
}

fn with_namespace<T>(message: T, lease: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert(
        "containerd-namespace",
        tonic::metadata::MetadataValue::from_static(NAMESPACE),
    );
    if let Some(lease) = lease.and_then(|lease| lease.parse().ok()) {
        metadata.insert("containerd-lease", lease);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_build_makes_the_same_image() {
        let (one, two) = (ProbeImage::new().unwrap(), ProbeImage::new().unwrap());
        assert_eq!(one.name, two.name);
        assert_eq!(one.blobs.len(), 3);
        assert!(PROBE.starts_with(b"\0asm"));
    }
}
