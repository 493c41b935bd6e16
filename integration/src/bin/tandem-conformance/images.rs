//! The images that the suite pulls by name, built here: what is in them is what its specs look at.

use tandem_integration::{
    Error, Result,
    image::{Compression, ImageBuilder, Layout, Platform, Rootfs, index},
};

use crate::content::Content;

/// The sandboxes' image. Its name is none of the suite's: specs pull and remove a pause image of their own.
pub const SANDBOX: &str = "sandbox.test/pause:1";
/// The digest of the image that a spec pulls by digest. The suite's own cannot be rebuilt byte for byte, so this one
/// is built into the suite instead (`integration/setup`).
const DIGEST: &str = include_str!("../../../conformance/digest");

const KUBERNETES: &str = "registry.k8s.io/e2e-test-images";
const SUITE: &str = "gcr.io/k8s-staging-cri-tools";

/// Every image a spec needs, by the name it is pulled as.
///
/// # Errors
/// Where a layer cannot be archived.
pub fn all(content: &Content) -> Result<Vec<Layout>> {
    let architecture = Platform::host().architecture;
    let web = |name: &str, program: &str, port: &str, pid_file: bool| {
        let mut args = vec![program, "-port", port];
        if pid_file {
            args.extend(["-pid-file", "/var/run/nginx.pid"]);
        }
        // Where specs look for nginx in the process table, they look for these words.
        args.push("master process");
        Ok::<_, Error>(content.image(name)?.entrypoint(args).build())
    };
    let user = |name: &str, user: &str| {
        let image = content.image(&format!("{SUITE}/test-image-{name}"))?;
        Ok::<_, Error>(image.user(user).cmd(["sh"]).build())
    };
    let mut images = vec![
        content
            .image(&format!("{KUBERNETES}/busybox:1.29-2"))?
            .cmd(["sh"])
            .build(),
        web(&format!("{KUBERNETES}/nginx:1.14-2"), "/usr/sbin/nginx", "80", true)?,
        web(&format!("{KUBERNETES}/httpd:2.4.39-4"), "/usr/sbin/httpd", "80", false)?,
        web(
            &format!("{SUITE}/hostnet-nginx-{architecture}:latest"),
            "/usr/sbin/nginx",
            "12003",
            false,
        )?,
        content.escalating(&format!("{KUBERNETES}/nonewprivs:1.3"))?,
        content.pause("registry.k8s.io/pause:3.9", "suite")?,
        user("predefined-group:latest", "1000")?,
        by_digest()?,
    ];
    for (name, id) in [
        ("user-uid", "1002"),
        ("user-username", "www-data"),
        ("user-uid-group", "1003:1004"),
        ("user-username-group", "www-data:1004"),
    ] {
        images.push(user(&format!("{name}:latest"), id)?);
    }
    // Images that differ have other content; the tags of `tags` are names of one image.
    for (name, file) in [
        ("latest:latest", "latest"),
        ("1:latest", "1"),
        ("2:latest", "2"),
        ("3:latest", "3"),
        ("tag:test", "test"),
        ("tag:all", "all"),
        ("tags:1", "tags"),
        ("tags:2", "tags"),
        ("tags:3", "tags"),
    ] {
        let file = Rootfs::new().file(file, 0o644, b"");
        let image = content.image(&format!("{SUITE}/test-image-{name}"))?;
        images.push(image.files(&file, Compression::Gzip)?.cmd(["sh"]).build());
    }
    Ok(images)
}

/// The image of the sandboxes themselves.
///
/// # Errors
/// As [`all`].
pub fn sandbox(content: &Content) -> Result<Layout> {
    content.pause(SANDBOX, "sandbox")
}

/// The image pulled by digest. It has the same digest on every machine, because nothing of a machine is in it.
fn by_digest() -> Result<Layout> {
    let name = format!("{SUITE}/test-image-digest@{}", DIGEST.trim());
    let images = ["amd64", "arm64"].map(|architecture| {
        let files = Rootfs::new().file("digest", 0o644, b"");
        let image = ImageBuilder::new(&name).platform(Platform::new("linux", architecture));
        Ok(image.files(&files, Compression::None)?.build())
    });
    index(&name, images.into_iter().collect::<Result<Vec<_>>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_pulled_by_digest_has_the_digest_that_is_built_into_the_suite() {
        assert_eq!(by_digest().unwrap().target, DIGEST.trim());
    }
}
