//! Blobs, descriptors and the archive form of an image.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Media types of the images that tests make.
pub mod media {
    /// An OCI image's manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI index of manifests.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI image's config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer of files, not compressed.
    pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer of files, compressed.
    pub const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// The layer of a CNCF Wasm artifact.
    pub const WASM: &str = "application/wasm";
    /// The config of a CNCF Wasm artifact.
    pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
    /// A Wasm layer in runwasi's older form.
    pub const RUNWASI: &str = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
}

/// `sha256:` and the hexadecimal SHA-256 of `bytes`.
pub fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write;

    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What an image is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`, `wasi`, `wasip1`, `wasip2`.
    pub os: String,
    /// `amd64`, `arm64`, `wasm`.
    pub architecture: String,
}

impl Platform {
    /// Any platform.
    pub fn new(os: &str, architecture: &str) -> Self {
        Self {
            os: os.into(),
            architecture: architecture.into(),
        }
    }

    /// Linux on this machine's architecture, by its OCI name.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self::new("linux", architecture)
    }

    /// runwasi's platform of Wasm images.
    pub fn wasi() -> Self {
        Self::new("wasi", "wasm")
    }
}

/// Content with its type. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Media type.
    pub media_type: String,
    /// `sha256:…` of [`Blob::data`].
    pub digest: String,
    /// The content.
    pub data: Bytes,
}

impl Blob {
    /// Content of any type.
    pub fn new(media_type: &str, data: impl Into<Bytes>) -> Self {
        let data = data.into();
        Self {
            media_type: media_type.into(),
            digest: digest(&data),
            data,
        }
    }

    /// JSON content.
    pub fn json(media_type: &str, value: &Value) -> Self {
        Self::new(media_type, value.to_string().into_bytes())
    }

    /// The OCI descriptor.
    pub fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.data.len() })
    }

    /// The content as JSON; null where it is not.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.data).unwrap_or(Value::Null)
    }
}

/// An image as a registry would hold it: everything its target refers to, and the target.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Reference of the image record.
    pub name: String,
    /// Digest of the manifest or index that the name stands for.
    pub target: String,
    /// What manifests inside an index are for.
    pub platform: Option<Platform>,
    /// All blobs by digest, the target's too.
    pub blobs: BTreeMap<String, Blob>,
}

impl Layout {
    /// An image of any content: `target` must be a manifest or an index; whatever it refers to is in `blobs`.
    pub fn new(name: &str, target: Blob, blobs: impl IntoIterator<Item = Blob>) -> Self {
        let digest = target.digest.clone();
        let blobs = blobs.into_iter().chain([target]);
        Self {
            name: name.into(),
            target: digest,
            platform: None,
            blobs: blobs.map(|blob| (blob.digest.clone(), blob)).collect(),
        }
    }

    /// The same image by another name.
    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// The manifest or index that the name stands for.
    ///
    /// # Errors
    /// Where the layout was built without it.
    pub fn target(&self) -> Result<&Blob> {
        self.blob(&self.target)
    }

    pub(crate) fn blob(&self, digest: &str) -> Result<&Blob> {
        self.blobs
            .get(digest)
            .ok_or_else(|| Error::Setup(format!("image {}: no blob {digest}", self.name)))
    }

    /// The OCI image layout as a tar archive, for `ctr images import`.
    ///
    /// # Errors
    /// Where the target is missing.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let mut entry = self.target()?.descriptor();
        entry["annotations"] = json!({ "io.containerd.image.name": self.name });
        if let Some(Platform { os, architecture }) = &self.platform {
            entry["platform"] = json!({ "os": os, "architecture": architecture });
        }
        let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [entry] });
        let mut archive = super::Rootfs::new()
            .file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", 0o644, index.to_string().as_bytes());
        for (digest, blob) in &self.blobs {
            archive = archive.file(&format!("blobs/{}", digest.replace(':', "/")), 0o644, &blob.data);
        }
        archive.tar()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_hexadecimal_sha256() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b""), empty);
    }

    #[test]
    fn an_archive_without_its_target_is_refused() {
        let mut layout = Layout::new("x", Blob::new(media::MANIFEST, "{}"), []);
        layout.blobs.clear();
        assert!(layout.archive().is_err());
    }
}
