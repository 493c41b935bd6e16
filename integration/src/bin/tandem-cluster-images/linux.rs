//! The images of ordinary containers.

use tandem_integration::{
    Result, guests,
    image::{Layout, busybox, linux_static},
};

use crate::name;

/// The sandboxes' image and one with a shell.
pub fn images() -> impl Iterator<Item = Result<Layout>> {
    let pause = || linux_static(&name("pause", "1"), &guests::path("linux-pause")?);
    let images: [fn() -> Result<Layout>; 2] = [pause, || busybox(&name("busybox", "1"))];
    images.into_iter().map(|image| image())
}
