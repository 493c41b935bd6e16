//! Images that the Kubernetes suite needs beside the guests: as other runtimes' users have them, and bad ones.

use std::path::Path;

use serde_json::json;
use tandem_integration::{
    Result, guests,
    image::{Blob, Compression, ImageBuilder, Layout, Platform, Rootfs, media},
};

use crate::name;

/// Media types of an application for Spin.
const SPIN_CONFIG: &str = "application/vnd.fermyon.spin.application.v1+config";
const SPIN_LAYER: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// All of them.
pub fn images() -> impl Iterator<Item = Result<Layout>> {
    let images: [fn() -> Result<Layout>; 7] = [compat, platform, spin, truncated, native, absent, several];
    images.into_iter().map(|image| image())
}

/// As built for crun and youki: an ordinary image, whose annotation says that its program is Wasm.
fn compat() -> Result<Layout> {
    let files = Rootfs::new().file("echo.wasm", 0o755, &guests::bytes("echo.wasm")?);
    let image = ImageBuilder::new(&name("compat", "1")).files(&files, Compression::Gzip)?;
    Ok(image
        .annotation("module.wasm.image/variant", "compat")
        .entrypoint(["/echo.wasm"])
        .build())
}

/// As `docker buildx build --platform wasi/wasm` makes it, for a file system of one module.
fn platform() -> Result<Layout> {
    let files = Rootfs::new().file("echo.wasm", 0o755, &guests::bytes("echo.wasm")?);
    let image = ImageBuilder::new(&name("platform", "1")).platform(Platform::wasi());
    Ok(image
        .files(&files, Compression::Gzip)?
        .entrypoint(["/echo.wasm"])
        .build())
}

/// As `spin registry push` makes it, for an application of one component.
fn spin() -> Result<Layout> {
    let layer = Blob::new(SPIN_LAYER, guests::bytes("http-hello.wasm")?);
    let config = json!({
        "spin_lock_version": 1,
        "metadata": { "name": "hello", "version": "1.0.0", "trigger": { "type": "http" } },
        "triggers": [{
            "id": "trigger--hello",
            "trigger_type": "http",
            "trigger_config": { "component": "hello", "route": "/..." },
        }],
        "components": [{
            "id": "hello",
            "source": { "content_type": "application/wasm", "digest": layer.digest },
        }],
    });
    let image = ImageBuilder::new(&name("spin", "1")).layer(layer);
    Ok(image.config(Blob::json(SPIN_CONFIG, &config)).build())
}

/// A module that was cut short.
fn truncated() -> Result<Layout> {
    let mut code = guests::bytes("hello.wasm")?;
    code.truncate(60);
    one_file("truncated", "hello.wasm", &code)
}

/// Native code of another compiler, under the name that says so.
fn native() -> Result<Layout> {
    one_file("native", "hello.cwasm", &guests::bytes("linux-hello")?)
}

/// An image whose entrypoint is not in it.
fn absent() -> Result<Layout> {
    let files = Rootfs::new().file("hello.wasm", 0o755, &guests::bytes("hello.wasm")?);
    let image = ImageBuilder::new(&name("absent", "1")).files(&files, Compression::None)?;
    Ok(image.entrypoint(["/helo.wasm"]).build())
}

/// An artifact of two modules.
fn several() -> Result<Layout> {
    let mut image = ImageBuilder::new(&name("several", "1")).platform(Platform::new("wasip1", "wasm"));
    for guest in ["hello.wasm", "exit7.wasm"] {
        image = image.layer(Blob::new(media::WASM, guests::bytes(guest)?));
    }
    let config = json!({ "architecture": "wasm", "os": "wasip1", "layerDigests": [] });
    Ok(image.config(Blob::json(media::WASM_CONFIG, &config)).build())
}

fn one_file(image: &str, file: &str, content: &[u8]) -> Result<Layout> {
    let files = Rootfs::new().file(file, 0o755, content);
    let image = ImageBuilder::new(&name(image, "1")).files(&files, Compression::None)?;
    let path = Path::new("/").join(file);
    Ok(image.entrypoint([path.to_string_lossy()]).build())
}
