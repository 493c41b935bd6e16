//! The image of the DaemonSet, with the content of `deploy/docker/Dockerfile`: two static programs.

use std::path::PathBuf;

use tandem_integration::{
    Result,
    generation::{tandem_installer, tandem_shim},
    image::{Compression, ImageBuilder, Layout, Rootfs},
};

use crate::{name, read};

/// What a second build of the shim differs in: programs end where their last segment does, so that what follows is
/// not looked at, but it makes another digest and so another version.
const REBUILT: &[u8] = b"another build of the same sources\n";

/// The image of this version, and one to upgrade to.
///
/// # Errors
/// Where a program was not built.
pub fn images() -> Result<impl Iterator<Item = Result<Layout>>> {
    let shim = read(&tandem_shim())?;
    let installer = read(&tandem_installer())?;
    let builds: [(&str, &[u8]); 2] = [(env!("CARGO_PKG_VERSION"), b""), ("next", REBUILT)];
    Ok(builds.into_iter().map(move |(tag, more)| {
        let dir = PathBuf::from("usr/local/bin");
        let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let files = Rootfs::new()
            .dir("usr", 0o755)
            .dir("usr/local", 0o755)
            .dir("usr/local/bin", 0o755)
            .file(&file("containerd-shim-tandem-v1"), 0o755, &[&shim[..], more].concat())
            .file(&file("tandem-node-installer"), 0o755, &installer);
        let image = ImageBuilder::new(&name("tandem", tag)).files(&files, Compression::None)?;
        let image = image.entrypoint(["/usr/local/bin/tandem-node-installer"]).cmd(["help"]);
        Ok(image.user("0:0").build())
    }))
}
