//! The images that the suite pulls by name, built here: what is in them is what its specs look at.

use tandem_integration::{
    Error, Result,
    image::{Compression, ImageBuilder, Layout, Platform, Rootfs, busybox_files, index},
};

/// The sandboxes' image. Its name is none of the suite's: specs pull and remove a pause image of their own.
pub const SANDBOX: &str = "sandbox.test/pause:1";
/// The digest of the image that a spec pulls by digest. The suite's own cannot be rebuilt byte for byte, so this one
/// is built into the suite instead (`integration/setup`).
const DIGEST: &str = include_str!("../../../conformance/digest");

const KUBERNETES: &str = "registry.k8s.io/e2e-test-images";
const SUITE: &str = "gcr.io/k8s-staging-cri-tools";

/// Every image a spec needs, by the name it is pulled as. `programs` is the binary of `integration/conformance`.
///
/// # Errors
/// Where the machine has no busybox, or a layer cannot be archived.
pub fn all(programs: &[u8]) -> Result<Vec<Layout>> {
    let files = Files::new(programs)?;
    let architecture = Platform::host().architecture;
    let web = |name: &str, program: &str, port: &str, pid_file: bool| {
        let mut args = vec![program, "-port", port];
        if pid_file {
            args.extend(["-pid-file", "/var/run/nginx.pid"]);
        }
        // Where specs look for nginx in the process table, they look for these words.
        args.push("master process");
        Ok::<_, Error>(files.image(name)?.entrypoint(args).build())
    };
    let mut images = vec![
        files
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
        files.escalating(&format!("{KUBERNETES}/nonewprivs:1.3"))?,
        files.pause("registry.k8s.io/pause:3.9", "suite")?,
        files.user("predefined-group:latest", "1000")?,
        by_digest()?,
    ];
    for (name, user) in [
        ("user-uid", "1002"),
        ("user-username", "www-data"),
        ("user-uid-group", "1003:1004"),
        ("user-username-group", "www-data:1004"),
    ] {
        images.push(files.user(&format!("{name}:latest"), user)?);
    }
    // Images that differ have other content; the tags of `tags` are names of one image.
    for (name, content) in [
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
        let file = Rootfs::new().file(content, 0o644, b"");
        let image = files.image(&format!("{SUITE}/test-image-{name}"))?;
        images.push(image.files(&file, Compression::Gzip)?.cmd(["sh"]).build());
    }
    Ok(images)
}

/// The image of the sandboxes themselves.
///
/// # Errors
/// As [`all`].
pub fn sandbox(programs: &[u8]) -> Result<Layout> {
    Files::new(programs)?.pause(SANDBOX, "sandbox")
}

/// What the images are made of.
struct Files<'a> {
    busybox: Rootfs,
    tools: Rootfs,
    programs: &'a [u8],
}

impl<'a> Files<'a> {
    fn new(programs: &'a [u8]) -> Result<Self> {
        let tools = Rootfs::new()
            .file("bin/programs", 0o755, programs)
            .link("bin/ipcs", "programs")
            .link("bin/pgrep", "programs")
            .dir("usr", 0o755)
            .dir("usr/sbin", 0o755)
            .link("usr/sbin/nginx", "/bin/programs")
            .link("usr/sbin/httpd", "/bin/programs")
            .dir("var", 0o755)
            .dir("var/run", 0o755)
            .file(
                "etc/passwd",
                0o644,
                b"root:x:0:0:root:/:/bin/sh\n\
                  www-data:x:33:33:www-data:/:/bin/sh\n\
                  default-user:x:1000:1000:user:/:/bin/sh\n\
                  nobody:x:65534:65534:nobody:/:/bin/sh\n",
            )
            .file(
                "etc/group",
                0o644,
                b"root:x:0:\n\
                  www-data:x:33:\n\
                  default-user:x:1000:\n\
                  group-defined-in-image:x:50000:default-user\n\
                  nogroup:x:65534:\n",
            );
        Ok(Self {
            busybox: busybox_files()?,
            tools,
            programs,
        })
    }

    /// An image with a shell and all that specs run in it.
    fn image(&self, name: &str) -> Result<ImageBuilder> {
        let image = ImageBuilder::new(name).files(&self.busybox, Compression::Gzip)?;
        image.files(&self.tools, Compression::Gzip)
    }

    fn user(&self, name: &str, user: &str) -> Result<Layout> {
        let image = self.image(&format!("{SUITE}/test-image-{name}"))?;
        Ok(image.user(user).cmd(["sh"]).build())
    }

    /// A pause image; those of other `purpose` are other images.
    fn pause(&self, name: &str, purpose: &str) -> Result<Layout> {
        let files = Rootfs::new().file("pause", 0o755, self.programs);
        let image = ImageBuilder::new(name).files(&files, Compression::Gzip)?;
        Ok(image.env([format!("PURPOSE={purpose}")]).entrypoint(["/pause"]).build())
    }

    /// A program whose file gives it its owner's identity.
    fn escalating(&self, name: &str) -> Result<Layout> {
        let files = Rootfs::new().file("nonewprivs", 0o4755, self.programs);
        let image = ImageBuilder::new(name).files(&files, Compression::Gzip)?;
        Ok(image.entrypoint(["/nonewprivs"]).build())
    }
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
