//! Builders of the kinds of images that Tandem meets in the field, and the parts to make bad ones from.

use std::{fs, path::Path, process::Command};

use serde_json::{Map, Value, json};

use super::{Blob, Compression, Layout, Platform, Rootfs, media};
use crate::{Error, Result};

/// An image of any layers and config. Nothing is checked: bad images are made with this too.
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    name: String,
    platform: Platform,
    layers: Vec<Blob>,
    diff_ids: Vec<String>,
    process: Map<String, Value>,
    config: Option<Blob>,
    annotations: Map<String, Value>,
}

impl ImageBuilder {
    /// An image for this machine's Linux, without layers.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            platform: Platform::host(),
            layers: Vec::new(),
            diff_ids: Vec::new(),
            process: Map::new(),
            config: None,
            annotations: Map::new(),
        }
    }

    /// What the image is for.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// Adds a layer of files.
    ///
    /// # Errors
    /// Where the files cannot be archived.
    pub fn files(mut self, files: &Rootfs, compression: Compression) -> Result<Self> {
        let (layer, diff_id) = files.layer(compression)?;
        self.layers.push(layer);
        self.diff_ids.push(diff_id);
        Ok(self)
    }

    /// Adds a layer of any type, without a diff id.
    pub fn layer(mut self, layer: Blob) -> Self {
        self.layers.push(layer);
        self
    }

    /// Adds a diff id, by default there is one for each layer of files.
    pub fn diff_id(mut self, diff_id: impl Into<String>) -> Self {
        self.diff_ids.push(diff_id.into());
        self
    }

    /// The image's entrypoint.
    pub fn entrypoint(self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.list("Entrypoint", args)
    }

    /// The image's default arguments.
    pub fn cmd(self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.list("Cmd", args)
    }

    /// The image's environment, as `NAME=value`.
    pub fn env(self, env: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.list("Env", env)
    }

    /// The image's working directory.
    pub fn cwd(mut self, dir: &str) -> Self {
        self.process.insert("WorkingDir".into(), dir.into());
        self
    }

    /// The user its process runs as: a name or an id, with `:` and a group where there is one.
    pub fn user(mut self, user: &str) -> Self {
        self.process.insert("User".into(), user.into());
        self
    }

    fn list(mut self, key: &str, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        self.process.insert(key.into(), values.into());
        self
    }

    /// Adds an annotation to the manifest.
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// Replaces the config by any content.
    pub fn config(mut self, config: Blob) -> Self {
        self.config = Some(config);
        self
    }

    /// The image.
    pub fn build(self) -> Layout {
        let Platform { os, architecture } = &self.platform;
        let config = self.config.unwrap_or_else(|| {
            let config = json!({
                "architecture": architecture,
                "os": os,
                "config": self.process,
                "rootfs": { "type": "layers", "diff_ids": self.diff_ids },
            });
            Blob::json(media::CONFIG, &config)
        });
        let layers: Vec<Value> = self.layers.iter().map(Blob::descriptor).collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media::MANIFEST,
            "config": config.descriptor(),
            "layers": layers,
        });
        if !self.annotations.is_empty() {
            manifest["annotations"] = self.annotations.into();
        }
        let manifest = Blob::json(media::MANIFEST, &manifest);
        let blobs = self.layers.into_iter().chain([config]);
        let mut layout = Layout::new(&self.name, manifest, blobs);
        layout.platform = Some(self.platform);
        layout
    }
}

/// A classic image: the module is a file of an ordinary Linux image.
///
/// # Errors
/// Where the layer cannot be archived.
pub fn classic<'a>(
    name: &str,
    path: &str,
    wasm: &[u8],
    entrypoint: impl IntoIterator<Item = &'a str>,
) -> Result<Layout> {
    let files = Rootfs::new().file(path, 0o755, wasm);
    let image = ImageBuilder::new(name).files(&files, Compression::Gzip)?;
    Ok(image.entrypoint(entrypoint).build())
}

/// A Linux image with busybox (which must be linked statically) and links for all its commands.
///
/// # Errors
/// Where the machine has no busybox.
pub fn busybox(name: &str) -> Result<Layout> {
    let image = ImageBuilder::new(name).files(&busybox_files()?, Compression::None)?;
    Ok(image.cmd(["sh"]).build())
}

/// The files of [`busybox`], to be added to.
///
/// # Errors
/// As [`busybox`].
pub fn busybox_files() -> Result<Rootfs> {
    const BUSYBOX: &str = "/bin/busybox";
    let binary = fs::read(BUSYBOX).map_err(Error::system("cannot read", BUSYBOX))?;
    let list = Command::new(BUSYBOX).arg("--list").output();
    let list = list.map_err(Error::system("cannot run", BUSYBOX))?.stdout;
    let mut files = Rootfs::new().dir("bin", 0o755).file("bin/busybox", 0o755, &binary);
    for command in String::from_utf8_lossy(&list).lines() {
        if command != "busybox" {
            files = files.link(&format!("bin/{command}"), "busybox");
        }
    }
    Ok(files
        .dir("etc", 0o755)
        .file("etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\n")
        .dir("proc", 0o755)
        .dir("tmp", 0o1777))
}

/// A Linux image of one statically linked program, at `/<file name>`.
///
/// # Errors
/// Where the program cannot be read.
pub fn linux_static(name: &str, binary: &Path) -> Result<Layout> {
    let content = fs::read(binary).map_err(Error::system("cannot read", binary))?;
    let file = binary.file_name().unwrap_or_default().to_string_lossy();
    let path = format!("/{file}");
    let files = Rootfs::new().file(&path, 0o755, &content);
    let image = ImageBuilder::new(name).files(&files, Compression::None)?;
    Ok(image.entrypoint([path]).build())
}

/// An OCI artifact as the CNCF's Wasm working group specifies it: the module or component is the one layer, and
/// nothing in it says how to run it.
pub fn oci_artifact(name: &str, wasm: &[u8]) -> Layout {
    let layer = Blob::new(media::WASM, wasm.to_vec());
    // The binary format's preamble: magic, version, and the layer: 0 for modules, 1 for components.
    let is_component = wasm.get(4..8) == Some(&[0x0d, 0, 1, 0]);
    let mut config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": if is_component { "wasip2" } else { "wasip1" },
        "layerDigests": [layer.digest],
    });
    if is_component {
        config["component"] = json!({ "exports": [], "imports": [] });
    }
    let os = if is_component { "wasip2" } else { "wasip1" };
    let image = ImageBuilder::new(name).platform(Platform::new(os, "wasm"));
    let config = Blob::json(media::WASM_CONFIG, &config);
    image.layer(layer).config(config).build()
}

/// runwasi's older form: an image for `wasi/wasm` whose one layer is the component, its digest also the diff id.
pub fn runwasi(name: &str, wasm: &[u8]) -> Layout {
    let layer = Blob::new(media::RUNWASI, wasm.to_vec());
    let diff_id = layer.digest.clone();
    let image = ImageBuilder::new(name).platform(Platform::wasi());
    image.layer(layer).diff_id(diff_id).build()
}

/// An index of images, each for its own platform, in this order.
///
/// # Errors
/// Where one of them has no target.
pub fn index(name: &str, images: impl IntoIterator<Item = Layout>) -> Result<Layout> {
    let mut manifests = Vec::new();
    let mut blobs = Vec::new();
    for image in images {
        let mut descriptor = image.target()?.descriptor();
        if let Some(Platform { os, architecture }) = &image.platform {
            descriptor["platform"] = json!({ "os": os, "architecture": architecture });
        }
        manifests.push(descriptor);
        blobs.extend(image.blobs.into_values());
    }
    let index = json!({ "schemaVersion": 2, "mediaType": media::INDEX, "manifests": manifests });
    Ok(Layout::new(name, Blob::json(media::INDEX, &index), blobs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runwasi_image_has_its_layers_digest_as_diff_id() {
        let layout = runwasi("x", b"\0asm");
        let manifest = layout.target().unwrap().value();
        let digest = manifest["config"]["digest"].as_str().unwrap();
        let config = layout.blob(digest).unwrap().value();
        assert_eq!(config["os"], "wasi");
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    }

    #[test]
    fn an_artifact_tells_a_module_from_a_component() {
        let os = |wasm: &[u8]| oci_artifact("x", wasm).platform.unwrap().os;
        assert_eq!(os(b"\0asm\x01\0\0\0"), "wasip1");
        assert_eq!(os(b"\0asm\x0d\0\x01\0"), "wasip2");
    }

    #[test]
    fn an_index_holds_the_blobs_of_all_its_images() {
        let index = index("x", [runwasi("a", b"1"), oci_artifact("b", b"2")]).unwrap();
        assert_eq!(index.blobs.len(), 7);
        assert_eq!(
            index.target().unwrap().value()["manifests"][0]["platform"]["os"],
            "wasi"
        );
    }
}
