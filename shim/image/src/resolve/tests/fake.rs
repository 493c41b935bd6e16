//! A containerd of maps, and images made by hand.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use super::super::*;
use crate::ErrorKind;
use crate::digest::chain_id;

pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub const WASM: &str = "application/wasm";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

#[derive(Default)]
pub struct Fake {
    pub container: Container,
    pub parent: String,
    pub images: HashMap<String, Descriptor>,
    pub blobs: HashMap<Digest, Vec<u8>>,
    pub unpacked: Vec<(Digest, Digest)>,
    pub asked: Mutex<Vec<String>>,
}

impl Fake {
    /// A container of image `img` in the snapshotter `overlayfs`, not made by CRI.
    pub fn new(parent: Option<Digest>) -> Self {
        Self {
            container: Container {
                image: "img".into(),
                snapshotter: "overlayfs".into(),
                snapshot_key: "c1".into(),
                cri_image_id: None,
            },
            parent: parent.map(|p| p.to_string()).unwrap_or_default(),
            ..Self::default()
        }
    }

    pub fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let digest = Digest::of(&bytes);
        let size = bytes.len() as u64;
        self.blobs.insert(digest, bytes);
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
        }
    }

    pub fn json(&mut self, media_type: &str, value: Value) -> Descriptor {
        self.blob(media_type, value.to_string().into_bytes())
    }

    pub fn manifest(&mut self, config: Descriptor, layers: &[(&str, &str)]) -> Descriptor {
        let layers: Vec<Value> = layers
            .iter()
            .map(|(media_type, content)| {
                json!({"mediaType": media_type, "digest": layer(content), "size": content.len()})
            })
            .collect();
        self.json(
            MANIFEST,
            json!({"schemaVersion": 2, "config": reference(&config), "layers": layers}),
        )
    }

    /// An image with a config of the usual kind.
    pub fn image(&mut self, platform: &str, diffs: &[&str], layers: &[(&str, &str)]) -> Descriptor {
        let (os, architecture) = platform.split_once('/').unwrap();
        let diff_ids: Vec<String> = diffs.iter().map(|d| layer(d).to_string()).collect();
        let config = self.json(
            IMAGE_CONFIG,
            json!({"os": os, "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids}}),
        );
        let manifest = self.manifest(config.clone(), layers);
        if let Some(chain) = chain_id(&diffs.iter().map(|d| layer(d)).collect::<Vec<_>>()) {
            self.unpacked.push((chain, config.digest));
        }
        manifest
    }

    pub fn artifact(&mut self, content: &str) -> Descriptor {
        let config = self.json(
            manifest::WASM_CONFIG,
            json!({"os": "wasip1", "architecture": "wasm", "layerDigests": [layer(content)]}),
        );
        self.manifest(config, &[(WASM, content)])
    }

    pub fn index(&mut self, members: &[(&Descriptor, &str)]) -> Descriptor {
        let manifests: Vec<Value> = members
            .iter()
            .map(|(descriptor, platform)| {
                let mut value = reference(descriptor);
                if let Some((os, architecture)) = platform.split_once('/') {
                    value["platform"] = json!({"os": os, "architecture": architecture});
                }
                value
            })
            .collect();
        self.json(INDEX, json!({"schemaVersion": 2, "manifests": manifests}))
    }

    pub fn tag(&mut self, name: &str, target: Descriptor) {
        self.images.insert(name.into(), target);
    }

    pub fn config_of(&self, manifest: &Descriptor) -> Digest {
        match manifest::parse_document(&self.blobs[&manifest.digest]).unwrap() {
            Document::Manifest(manifest) => manifest.config.digest,
            Document::Index(_) => panic!("an index"),
        }
    }

    pub fn resolve(&self) -> Result<Resolution, ImageError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(resolve(self, "c1"))
    }

    #[track_caller]
    pub fn expect_module(&self, content: &str) {
        let Resolution::Module(found) = self.resolve().unwrap() else {
            panic!("no module")
        };
        assert_eq!((found.digest, found.size), (layer(content), content.len() as u64));
        assert_eq!(found.image, "img");
    }

    #[track_caller]
    pub fn expect_no_wasm(&self) {
        assert_eq!(self.resolve().unwrap(), Resolution::NoWasm { image: "img".into() });
    }

    #[track_caller]
    pub fn expect_error(&self, kind: ErrorKind, texts: &[&str]) {
        let error = self.resolve().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        for text in texts.iter().chain(&["img"]) {
            assert!(error.to_string().contains(text), "`{text}` is not in: {error}");
        }
    }
}

impl Source for Fake {
    async fn container(&self, _id: &str) -> Result<Container, ImageError> {
        Ok(self.container.clone())
    }

    async fn target(&self, name: &str) -> Result<Option<Descriptor>, ImageError> {
        self.asked.lock().unwrap().push(name.into());
        Ok(self.images.get(name).cloned())
    }

    async fn evidence(&self, container: &Container) -> Result<Evidence, ImageError> {
        self.asked.lock().unwrap().push(container.snapshot_key.clone());
        Ok(Evidence::from_parent(&self.parent))
    }

    async fn document(&self, _image: &str, digest: &Digest) -> Result<Option<Vec<u8>>, ImageError> {
        Ok(self.blobs.get(digest).cloned())
    }

    async fn configs_of_chain(&self, snapshotter: &str, chain: &Digest) -> Result<Vec<Digest>, ImageError> {
        assert_eq!(snapshotter, "overlayfs");
        Ok(self
            .unpacked
            .iter()
            .filter(|(c, _)| c == chain)
            .map(|(_, config)| *config)
            .collect())
    }

    async fn manifests_of_config(&self, config: &Digest) -> Result<Vec<Digest>, ImageError> {
        let text = config.to_string();
        let refers = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        Ok(self
            .blobs
            .iter()
            .filter(|(_, bytes)| refers(bytes))
            .map(|(digest, _)| *digest)
            .collect())
    }
}

pub fn layer(content: &str) -> Digest {
    Digest::of(content.as_bytes())
}

pub fn chain(contents: &[&str]) -> Option<Digest> {
    chain_id(&contents.iter().map(|c| layer(c)).collect::<Vec<_>>())
}

pub fn reference(descriptor: &Descriptor) -> Value {
    let Descriptor {
        media_type,
        digest,
        size,
        ..
    } = descriptor;
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

pub fn host() -> String {
    format!("linux/{}", platform::host_arch())
}
