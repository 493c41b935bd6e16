//! What the tests share: images of the guests, and one containerd with one of them.

use tandem_integration::image::{Compression, Image, ImageBuilder, Rootfs, busybox, classic};
use tandem_integration::{ContainerBuilder, Containerd, Generation, Result, TANDEM, Task, guests};

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

/// A container of our runtime.
pub fn tandem(ctd: &Containerd, image: &Image) -> ContainerBuilder {
    ctd.container(image).runtime(TANDEM)
}

/// The shim's service and its zygote: the parent of the task's process is the zygote, whose parent is the shim.
pub fn shim_of(task: &Task) -> (i32, i32) {
    let parent = |pid: i32| -> i32 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let after = stat.rsplit_once(')').unwrap().1;
        after.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let zygote = parent(i32::try_from(task.pid()).unwrap());
    (parent(zygote), zygote)
}
