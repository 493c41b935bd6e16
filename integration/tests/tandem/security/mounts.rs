//! What a container sees of files: read-only roots, volumes with their options, propagation, shared memory.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use tandem_integration::{ContainerBuilder, Result, on_both_generations};

use super::{Both, Running, Seen};

/// A directory that is a mount of its own, shared, with another mount below: what kubelet's directories are.
struct Volume {
    dir: tempfile::TempDir,
}

impl Volume {
    fn new() -> Self {
        let volume = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        tmpfs(volume.path());
        let none = None::<&str>;
        mount(none, volume.path(), none, MsFlags::MS_SHARED, none).unwrap();
        std::fs::create_dir(volume.path().join("below")).unwrap();
        std::fs::create_dir(volume.path().join("later")).unwrap();
        tmpfs(&volume.path().join("below"));
        volume
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        for path in ["later", "below", ""] {
            let _ = umount2(&self.path().join(path), MntFlags::MNT_DETACH);
        }
    }
}

fn tmpfs(path: &Path) {
    mount(Some("test"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
}

fn with(volume: &Volume, options: &'static [&'static str]) -> impl Fn(ContainerBuilder) -> ContainerBuilder {
    let path = volume.path().to_string_lossy().into_owned();
    move |builder| builder.mount("/v", "bind", &path, options)
}

on_both_generations! {
    async fn a_read_only_root_cannot_be_written_and_a_volume_below_it_can(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let volume = tempfile::tempdir().unwrap();
        for builder in both.writing("/file") {
            assert_ne!(builder.readonly_rootfs().run_to_end().await?.code, 0);
        }
        for builder in both.writing("/v/file") {
            let output = builder.readonly_rootfs().bind(volume.path(), "/v", true).run_to_end().await?;
            assert_eq!(output.code, 0, "{}", output.stderr);
            std::fs::remove_file(volume.path().join("file")).unwrap();
        }
        both.stop().await
    }

    async fn recursively_read_only_means_the_mounts_below_too(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let volume = Volume::new();
        for (options, allowed) in [(&["rbind", "ro"], true), (&["rbind", "rro"], false)] {
            let configure = with(&volume, options);
            for builder in both.writing("/v/below/file") {
                let code = configure(builder).run_to_end().await?.code;
                assert_eq!(code == 0, allowed, "{options:?}");
            }
            for builder in both.writing("/v/file") {
                assert_ne!(configure(builder).run_to_end().await?.code, 0, "{options:?}");
            }
        }
        both.stop().await
    }

    async fn mounts_of_the_host_arrive_as_the_propagation_says(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for (options, arrives) in [
            (&["rbind", "rprivate"] as &'static [&'static str], false),
            (&["rbind", "private"], false),
            (&["rbind", "rslave"], true),
            (&["rbind"], true),
        ] {
            for builder in both.waiting() {
                let volume = Volume::new();
                let running = Running::start(with(&volume, options)(builder)).await?;
                let seen = Seen { pid: running.task.pid() };
                tmpfs(&volume.path().join("later"));
                std::fs::write(volume.path().join("later/file"), "x").unwrap();
                assert_eq!(seen.path("/v/later/file").exists(), arrives, "{options:?}");
                running.end().await?;
            }
        }
        both.stop().await
    }

    async fn a_shared_volume_carries_mounts_both_ways_and_no_other_mount_does(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for builder in both.waiting() {
            let (shared, private) = (Volume::new(), Volume::new());
            let configured = with(&shared, &["rbind", "rshared"])(builder)
                .mount("/p", "bind", &private.path().to_string_lossy(), &["rbind", "rprivate"])
                .edit(|spec| spec["linux"]["rootfsPropagation"] = "rshared".into());
            let running = Running::start(configured).await?;
            let pid = running.task.pid();
            // What a storage driver in the container would do.
            let inside = std::thread::spawn(move || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
                let namespace = std::fs::File::open(format!("/proc/{pid}/ns/mnt")).unwrap();
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                tmpfs(Path::new("/v/later"));
                tmpfs(Path::new("/p/later"));
                std::fs::write("/v/later/file", "x").unwrap();
                std::fs::write("/p/later/file", "x").unwrap();
            });
            inside.join().unwrap();
            assert!(shared.path().join("later/file").exists());
            assert!(!private.path().join("later/file").exists());
            running.end().await?;
        }
        both.stop().await
    }

    async fn options_of_volumes_and_of_temporary_file_systems_hold(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let volume = tempfile::tempdir().unwrap();
        let source = volume.path().to_string_lossy().into_owned();
        let configure = |b: ContainerBuilder| {
            b.mount("/v", "bind", &source, &["bind", "ro", "nosuid", "nodev", "noexec", "noatime"])
                .mount("/t", "tmpfs", "tmpfs", &["nosuid", "noexec", "size=64k", "mode=1700"])
        };
        both.each(configure, |seen| {
            let (own, _, _) = seen.mount("/v");
            assert_eq!(own, "ro,nosuid,nodev,noexec,noatime");
            let (own, _, options) = seen.mount("/t");
            assert!(own.contains("nosuid") && own.contains("noexec"), "{own}");
            assert!(options.contains("size=64k") && options.contains("mode=1700"), "{options}");
        }).await?;
        both.stop().await
    }

    async fn shared_memory_is_as_large_as_the_spec_says(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let configure = |b: ContainerBuilder| b.edit(|spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            let shm = mounts.iter_mut().find(|mount| mount["destination"] == "/dev/shm").unwrap();
            shm["options"] = json!(["nosuid", "noexec", "nodev", "mode=1777", "size=128k"]);
        });
        both.each(configure, |seen| {
            let (_, _, options) = seen.mount("/dev/shm");
            assert!(options.contains("size=128k"), "{options}");
        }).await?;
        both.stop().await
    }

    async fn read_only_cgroups_cannot_be_written_by_root(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let configure = |b: ContainerBuilder| {
            b.memory_limit(64 << 20).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])
        };
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let file = if unified { "/sys/fs/cgroup/memory.max" } else { "/sys/fs/cgroup/memory/memory.limit_in_bytes" };
        both.each(configure, |seen| {
            assert_eq!(std::fs::read_to_string(seen.path(file)).unwrap(), format!("{}\n", 64 << 20));
            let dir = Path::new(file).parent().unwrap().to_string_lossy();
            assert!(seen.mount(&dir).0.starts_with("ro,"));
        }).await?;
        for builder in both.writing(file) {
            let output = configure(builder).run_to_end().await?;
            assert_ne!(output.code, 0);
        }
        both.stop().await
    }

    async fn a_relative_source_is_the_bundles(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        // The one file that is in every bundle.
        for builder in both.reading("/spec") {
            let output = builder.mount("/spec", "bind", "config.json", &["bind", "ro"]).run_to_end().await?;
            assert!(output.stdout.contains("ociVersion"), "{}", output.stderr);
        }
        both.stop().await
    }
}
