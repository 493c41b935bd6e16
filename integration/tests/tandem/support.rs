//! What the tests share: images of the guests, and one containerd with one of them.

use tandem_integration::image::{Compression, Image, ImageBuilder, Rootfs, busybox, busybox_files, classic};
use tandem_integration::{Container, ContainerBuilder, Containerd, Generation, Result, TANDEM, Task, guests};

/// A containerd with a classic image of a guest, whose entrypoint is the guest.
pub async fn with_guest(generation: Generation, guest: &str) -> Result<(Containerd, Image)> {
    let ctd = Containerd::start(generation).await?;
    let image = import_guest(&ctd, guest).await?;
    Ok((ctd, image))
}

/// Imports a classic image of a guest.
pub async fn import_guest(ctd: &Containerd, guest: &str) -> Result<Image> {
    let path = format!("/{guest}");
    let name = format!("example.test/{}:1", guest.to_lowercase());
    ctd.import(&classic(&name, &path, &guests::bytes(guest)?, [path.as_str()])?)
        .await
}

/// Imports an image whose one file is `content` at `path`, which is also its entrypoint.
pub async fn import_file(ctd: &Containerd, path: &str, content: &[u8]) -> Result<Image> {
    let files = Rootfs::new().file(path, 0o755, content);
    let layout = ImageBuilder::new("example.test/file:1")
        .files(&files, Compression::default())?
        .entrypoint([path])
        .build();
    ctd.import(&layout).await
}

/// A containerd with busybox.
pub async fn with_busybox(generation: Generation) -> Result<(Containerd, Image)> {
    let ctd = Containerd::start(generation).await?;
    let image = ctd.import(&busybox("example.test/busybox:1")?).await?;
    Ok((ctd, image))
}

/// A containerd with an image that has busybox, and guests both at its root and in `/tools`.
pub async fn with_tools(generation: Generation) -> Result<(Containerd, Image)> {
    let ctd = Containerd::start(generation).await?;
    let mut files = busybox_files()?.dir("tools", 0o755);
    for guest in [
        "echo.wasm",
        "exit7.wasm",
        "spin.wasm",
        "no-start.wasm",
        "hello-component.wasm",
    ] {
        let content = guests::bytes(guest)?;
        files = files
            .file(guest, 0o755, &content)
            .file(&format!("tools/{guest}"), 0o644, &content);
    }
    files = files
        .file("tools/script", 0o755, b"#!/bin/sh\necho \"script $1\"\n")
        .file("tools/no-x", 0o644, b"#!/bin/sh\n");
    let layout = ImageBuilder::new("example.test/tools:1")
        .files(&files, Compression::default())?
        .entrypoint(["/echo.wasm"])
        .build();
    let image = ctd.import(&layout).await?;
    Ok((ctd, image))
}

/// Arguments of a container that only waits, of each kind: what is executed in it must not care which it is.
pub const WAITING: [&[&str]; 2] = [&["/echo.wasm", "sleep", "1000"], &["sleep", "1000"]];

/// A running container.
pub async fn running(builder: ContainerBuilder) -> Result<(Container, Task)> {
    let container = builder.create().await?;
    let mut task = container.task().await?;
    task.start().await?;
    Ok((container, task))
}

/// The end of a running container.
pub async fn end(container: Container, task: &Task) -> Result<()> {
    task.kill_and_delete().await?;
    container.remove().await
}

/// A container of our runtime.
pub fn tandem(ctd: &Containerd, image: &Image) -> ContainerBuilder {
    ctd.container(image).runtime(TANDEM)
}
