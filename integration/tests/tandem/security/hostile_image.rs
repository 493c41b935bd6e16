//! Images whose links lead out of them. The runtime works in an image's tree as the host's root: whatever the image says,
//! nothing of the host is reached, changed or made, and what cannot be done inside is refused by name.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use tandem_integration::image::{Compression, Image, ImageBuilder, Rootfs};
use tandem_integration::{Code, ContainerBuilder, Containerd, Result, guests, on_both_generations};

use super::super::support::tandem;

/// A directory of the host that the images' links lead to.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["file", "null", "ptmx", "console", "fd", "pts/ptmx", "secret"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "the host's").unwrap();
        }
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// All that is in it: mode, inode, and content or target.
    fn look(&self) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut rest = vec![self.path().to_owned()];
        while let Some(path) = rest.pop() {
            let stat = path.symlink_metadata().unwrap();
            let content = match stat.is_file() {
                true => std::fs::read(&path).unwrap(),
                false => Vec::new(),
            };
            if stat.is_dir() {
                rest.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            found.insert(path, (stat.mode(), stat.ino(), content));
        }
        found
    }

    /// Links to it: by its whole name, by climbing, and over another link.
    fn links(&self) -> [String; 3] {
        let absolute = self.path().display().to_string();
        [
            absolute.clone(),
            format!("../../../../../../../../../..{absolute}"),
            "/first-link".into(),
        ]
    }
}

/// An image with a program and a guest, in which `place` is a link to `target`.
async fn image(ctd: &Containerd, host: &Host, place: &str, target: &str) -> Result<Image> {
    let files = Rootfs::new()
        .file("bin/busybox", 0o755, &std::fs::read("/bin/busybox").unwrap())
        .link("bin/echo", "busybox")
        .file("echo.wasm", 0o755, &guests::bytes("echo.wasm")?)
        .link("first-link", &host.path().display().to_string())
        .link(place, target);
    let name = format!("example.test/hostile-{}:1", place.replace(['/', '.'], "-"));
    let layout = ImageBuilder::new(&name).files(&files, Compression::None)?.build();
    ctd.import(&layout).await
}

/// Both kinds of containers of the image.
fn both(ctd: &Containerd, image: &Image) -> [ContainerBuilder; 2] {
    [
        tandem(ctd, image).args(["/echo.wasm", "print", "up"]),
        tandem(ctd, image).args(["/bin/echo", "up"]),
    ]
}

/// Leaves out what the default spec mounts at and below `place`.
fn without_mounts(builder: ContainerBuilder, place: &'static str) -> ContainerBuilder {
    builder.edit(|spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with(place));
    })
}

type Configure = fn(ContainerBuilder) -> ContainerBuilder;

/// The image's link, and what a spec asks the runtime to do there.
const WAYS: [(&str, Configure); 12] = [
    ("dev", |builder| without_mounts(builder, "/dev")),
    ("dev", |builder| without_mounts(builder, "/dev").tty(true)),
    ("dev", |builder| builder),
    ("sys", |builder| builder),
    ("proc", |builder| builder),
    ("run", |builder| builder),
    ("cwd", |builder| builder.cwd("/cwd/new/directory")),
    ("v", |builder| builder.mount("/v", "tmpfs", "tmpfs", &["nosuid"])),
    ("v", |builder| {
        builder.mount("/v/new/place", "tmpfs", "tmpfs", &["nosuid"])
    }),
    ("v", |builder| {
        builder.mount("/v/new/file", "bind", "/etc/hostname", &["bind", "ro"])
    }),
    ("v", |builder| {
        builder.edit(|spec| {
            spec["linux"]["maskedPaths"] = json!(["/v/file", "/v"]);
            spec["linux"]["readonlyPaths"] = json!(["/v/pts", "/v/secret"]);
        })
    }),
    ("v", |builder| {
        builder.edit(|spec| {
            spec["linux"]["devices"] =
                json!([{ "path": "/v/device", "type": "c", "major": 1, "minor": 3, "fileMode": 438 }]);
        })
    }),
];

on_both_generations! {
    async fn no_link_of_an_image_leads_the_runtime_to_the_host(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let host = Host::new();
        let before = host.look();
        for (index, (place, configure)) in WAYS.into_iter().enumerate() {
            for target in host.links() {
                let image = image(&ctd, &host, place, &target).await?;
                for builder in both(&ctd, &image) {
                    let container = configure(builder).create().await?;
                    match container.task().await {
                        Ok(mut task) => {
                            task.start().await?;
                            task.wait().await?;
                            task.delete().await?;
                        }
                        // Whoever reads it must know what is wrong with the image, and whose fault it is.
                        Err(refusal) => {
                            let codes = [Some(Code::InvalidArgument), Some(Code::NotFound)];
                            assert!(codes.contains(&refusal.code()), "{index} {place} -> {target}: {refusal}");
                            assert!(refusal.message().contains(&format!("/{place}")), "{index} {place} -> {target}: {refusal}");
                        }
                    }
                    container.remove().await?;
                    assert_eq!(host.look(), before, "{index} {place} -> {target}");
                }
            }
        }
        ctd.stop().await
    }

    async fn nothing_is_mounted_over_what_the_kernel_tells_of_processes(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let host = Host::new();
        let image = image(&ctd, &host, "p", "/proc").await?;
        let volume = host.path().display().to_string();
        for place in ["/proc", "/proc/1/fd", "/proc/self", "/proc/thread-self/attr", "/x/../proc/sys", "/p/1", "/p"] {
            for builder in both(&ctd, &image) {
                let container = builder.mount(place, "bind", &volume, &["rbind", "rw"]).create().await?;
                let refusal = container.task().await.unwrap_err();
                assert_eq!(refusal.code(), Some(Code::InvalidArgument), "{place}: {refusal}");
                assert!(refusal.message().contains(place) && refusal.message().contains("/proc"), "{place}: {refusal}");
                container.remove().await?;
            }
        }
        // What lxcfs is for.
        for builder in both(&ctd, &image) {
            let file = host.path().join("file").display().to_string();
            let output = builder.mount("/proc/uptime", "bind", &file, &["bind", "ro"]).run_to_end().await?;
            assert_eq!(output.code, 0, "{output:?}");
        }
        ctd.stop().await
    }

    async fn an_entrypoint_is_what_its_links_lead_to_in_the_container(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let host = Host::new();
        let volume = tempfile::tempdir().unwrap();
        // Out of the volume into the image, and out of the image into the volume.
        std::os::unix::fs::symlink("/echo.wasm", volume.path().join("guest")).unwrap();
        std::os::unix::fs::symlink("/bin/busybox", volume.path().join("echo")).unwrap();
        std::fs::write(volume.path().join("own.wasm"), guests::bytes("echo.wasm")?).unwrap();
        let image = image(&ctd, &host, "own", "/volume/own.wasm").await?;
        for args in [["/volume/guest", "print", "up"], ["/own", "print", "up"], ["/volume/echo", "up", ""]] {
            let output = tandem(&ctd, &image).args(args).bind(volume.path(), "/volume", false).run_to_end().await?;
            assert_eq!(output.code, 0, "{args:?}: {output:?}");
            assert!(output.stdout.starts_with("up"), "{args:?}: {output:?}");
        }
        ctd.stop().await
    }

    async fn no_name_leads_through_what_the_runtime_has_open(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let host = Host::new();
        let image = image(&ctd, &host, "unused", "/").await?;
        for fd in 3..40 {
            // By a directory of a root file system, or by a procfs of the runtime's.
            for below in ["bin/busybox", "self/exe"] {
                let name = format!("/proc/self/fd/{fd}/{below}");
                let container = tandem(&ctd, &image).args([name.as_str(), "-c", "exit 7"]).create().await?;
                let refusal = container.task().await.err();
                let refusal = refusal.unwrap_or_else(|| panic!("{name} was found"));
                assert!(refusal.message().contains(&name), "{refusal}");
                container.remove().await?;
            }
        }
        ctd.stop().await
    }

    async fn a_module_that_its_user_may_not_read_does_not_run_nor_does_one_on_a_noexec_mount(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let host = Host::new();
        let volume = tempfile::tempdir().unwrap();
        let module = volume.path().join("m.wasm");
        std::fs::write(&module, guests::bytes("echo.wasm")?).unwrap();
        let image = image(&ctd, &host, "unused", "/").await?;
        let source = volume.path().display().to_string();
        let noexec = tandem(&ctd, &image).args(["/v/m.wasm", "print", "up"]);
        let container = noexec.mount("/v", "bind", &source, &["rbind", "noexec"]).create().await?;
        let refusal = container.task().await.unwrap_err();
        assert!(refusal.message().contains("/v/m.wasm") && refusal.message().contains("noexec"), "{refusal}");
        container.remove().await?;
        std::fs::set_permissions(&module, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let closed = tandem(&ctd, &image).args(["/v/m.wasm", "print", "up"]).user(1000, 1000);
        let container = closed.bind(volume.path(), "/v", false).create().await?;
        let refusal = container.task().await.unwrap_err();
        assert!(refusal.message().contains("/v/m.wasm") && refusal.message().contains("Permission denied"), "{refusal}");
        container.remove().await?;
        ctd.stop().await
    }
}
