//! What a Wasm guest is given of the container's files: files, not the kernel. Each attack is by root, from a module of
//! preview 1 and from a component; what a Linux program of the same container can do is not the matter here.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use tandem_integration::image::{Compression, Image, ImageBuilder, Rootfs};
use tandem_integration::{ContainerBuilder, Containerd, Generation, Output, Result, guests, on_both_generations};

use super::super::support::tandem;
use super::Running;

/// Both kinds of guest in one image, with links that lead where no guest may go, and links that every image has.
const GUESTS: [&str; 2] = ["/echo.wasm", "/hello-component.wasm"];

async fn image(ctd: &Containerd) -> Result<Image> {
    let files = Rootfs::new()
        .file("echo.wasm", 0o755, &guests::bytes("echo.wasm")?)
        .file("hello-component.wasm", 0o755, &guests::bytes("hello-component.wasm")?)
        .dir("var", 0o755)
        .link("var/run", "/run")
        .link("self", "/proc/self")
        .link("mem", "../proc/self/mem")
        .link("log", "/dev/stdout");
    let layout = ImageBuilder::new("example.test/view:1")
        .files(&files, Compression::default())?
        .entrypoint(["/echo.wasm"])
        .build();
    ctd.import(&layout).await
}

async fn start(generation: Generation) -> Result<(Containerd, Image)> {
    let ctd = Containerd::start(generation).await?;
    let image = image(&ctd).await?;
    Ok((ctd, image))
}

async fn cat(builder: ContainerBuilder, guest: &str, path: &str) -> Result<Output> {
    builder.args([guest, "cat", path]).run_to_end().await
}

/// That no guest can read any of the paths, and is told the usual reason.
async fn assert_refused(builder: impl Fn() -> ContainerBuilder, paths: &[&str]) -> Result<()> {
    for path in paths {
        for guest in GUESTS {
            let output = cat(builder(), guest, path).await?;
            assert!(
                output.code == 1 && output.stdout.is_empty(),
                "{guest} {path}: {output:?}"
            );
            assert!(
                output.stderr.contains("Permission denied"),
                "{guest} {path}: {}",
                output.stderr
            );
        }
    }
    Ok(())
}

/// A mount of proc on the node, which ends with it.
struct ProcMount<'a>(&'a Path);

impl<'a> ProcMount<'a> {
    fn new(path: &'a Path) -> Self {
        mount(Some("proc"), path, Some("proc"), MsFlags::empty(), None::<&str>).unwrap();
        Self(path)
    }
}

impl Drop for ProcMount<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

on_both_generations! {
    async fn no_guest_reaches_the_memory_of_a_process(generation: Generation) -> Result<()> {
        let (ctd, image) = start(generation).await?;
        let paths = [
            "/proc/self/mem", "/proc/1/mem", "/proc/thread-self/mem", "/proc/self/task/1/mem",
            "/self/mem", "/mem", "/var/../proc/self/mem", "/proc/self/root/proc/self/mem", "/proc/self/exe",
            "/sys/kernel/uevent_seqnum", "/dev/pts/ptmx",
        ];
        assert_refused(|| tandem(&ctd, &image), &paths).await?;
        for path in ["/proc/self/mem", "/proc/1/mem", "/self/mem", "/mem"] {
            let output = tandem(&ctd, &image).args(["/echo.wasm", "write", path, "x"]).run_to_end().await?;
            assert!(output.code == 1 && output.stderr.contains("Permission denied"), "{path}: {output:?}");
        }
        ctd.stop().await
    }

    async fn no_volume_leads_to_the_memory_of_a_process(generation: Generation) -> Result<()> {
        let (ctd, image) = start(generation).await?;
        let volume = tempfile::tempdir().unwrap();
        let inner = volume.path().join("proc");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(volume.path().join("file"), "").unwrap();
        let _proc = ProcMount::new(&inner);
        let with = || tandem(&ctd, &image).bind(volume.path(), "/v", true);
        assert_refused(with, &["/v/proc/self/mem", "/v/proc/1/mem", "/v/../v/proc/thread-self/mem", "/v/proc/self/root/v/proc/1/mem"]).await?;
        // The node's own proc, as a hostPath volume, and one file of it.
        assert_refused(|| tandem(&ctd, &image).bind(Path::new("/proc"), "/host/proc", true), &["/host/proc/1/mem", "/host/proc/self/mem"]).await?;
        ctd.stop().await
    }

    async fn a_mount_that_arrives_later_leads_to_no_memory_and_its_files_are_there(generation: Generation) -> Result<()> {
        let (ctd, image) = start(generation).await?;
        let volume = tempfile::tempdir().unwrap();
        mount(Some("test"), volume.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        mount(None::<&str>, volume.path(), None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
        let (kernel, files) = (volume.path().join("kernel"), volume.path().join("files"));
        std::fs::create_dir(&kernel).unwrap();
        std::fs::create_dir(&files).unwrap();
        let waiting = ["/echo.wasm", "print", "up", "+", "stdin", "+", "cat", "/v/files/late", "+", "cat", "/v/kernel/self/mem"];
        let builder = tandem(&ctd, &image).args(waiting).stdin("");
        let container = builder.mount("/v", "bind", &volume.path().to_string_lossy(), &["rbind", "rslave"]).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        task.stdout().wait_for("up").await?;
        mount(Some("late"), &files, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        std::fs::write(files.join("late"), "late").unwrap();
        let proc = ProcMount::new(&kernel);
        task.close_stdin().await?;
        assert_eq!(task.wait().await?.code, 1);
        assert_eq!(task.stdout().text(), "up\nlate");
        let errors = task.stderr().unwrap().text();
        assert!(errors.contains("Permission denied"), "{errors}");
        task.delete().await?;
        container.remove().await?;
        drop(proc);
        umount2(&files, MntFlags::MNT_DETACH).unwrap();
        umount2(volume.path(), MntFlags::MNT_DETACH).unwrap();
        ctd.stop().await
    }

    async fn no_neighbours_memory_is_reached_through_a_shared_pid_namespace(generation: Generation) -> Result<()> {
        let (ctd, image) = start(generation).await?;
        let neighbour = Running::start(tandem(&ctd, &image).args(["/echo.wasm", "print", "up", "+", "sleep", "1000"])).await?;
        let namespace = format!("/proc/{}/ns/pid", neighbour.task.pid());
        let joined = || tandem(&ctd, &image).namespace("pid", Path::new(&namespace)).capabilities(&["CAP_SYS_PTRACE"]);
        assert_refused(joined, &["/proc/1/mem", "/proc/1/root/etc/passwd", "/proc/1/environ"]).await?;
        neighbour.end().await?;
        ctd.stop().await
    }

    async fn no_guest_opens_a_device_of_its_spec_but_the_harmless_ones(generation: Generation) -> Result<()> {
        let (ctd, image) = start(generation).await?;
        // /dev/mem and /dev/port, allowed by the spec, under names of their own and others.
        let with = || tandem(&ctd, &image).edit(|spec| {
            spec["linux"]["devices"] = json!([
                { "path": "/dev/mem", "type": "c", "major": 1, "minor": 1, "fileMode": 0o666 },
                { "path": "/opt/harmless", "type": "c", "major": 1, "minor": 4, "fileMode": 0o666 },
            ]);
            spec["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
        });
        assert_refused(with, &["/dev/mem", "/opt/harmless", "/dev/tty", "/dev/ptmx"]).await?;
        for guest in GUESTS {
            let output = cat(with(), guest, "/dev/null").await?;
            assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{guest}: {}", output.stderr);
        }
        ctd.stop().await
    }

    async fn absolute_links_of_an_image_lead_where_they_lead_any_process(generation: Generation) -> Result<()> {
        let (ctd, image) = start(generation).await?;
        let secrets = tempfile::tempdir().unwrap();
        std::fs::write(secrets.path().join("token"), "secret").unwrap();
        for guest in GUESTS {
            let mounted = tandem(&ctd, &image).bind(secrets.path(), "/run/secrets", false);
            let output = cat(mounted, guest, "/var/run/secrets/token").await?;
            assert_eq!((output.code, output.stdout.as_str()), (0, "secret"), "{guest}: {}", output.stderr);
        }
        ctd.stop().await
    }

    async fn a_guest_logs_through_the_names_of_its_streams(generation: Generation) -> Result<()> {
        let (ctd, image) = start(generation).await?;
        for path in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/log"] {
            let output = tandem(&ctd, &image).args(["/echo.wasm", "write", path, "line"]).run_to_end().await?;
            assert_eq!((output.code, output.stdout.as_str()), (0, "line\n"), "{path}: {}", output.stderr);
        }
        let output = tandem(&ctd, &image).args(["/echo.wasm", "write", "/dev/stderr", "line"]).run_to_end().await?;
        assert_eq!((output.code, output.stderr.as_str()), (0, "line\n"), "{}", output.stdout);
        ctd.stop().await
    }

    async fn errors_of_files_are_called_what_they_are(generation: Generation) -> Result<()> {
        let (ctd, image) = start(generation).await?;
        let long = format!("/{}", "x".repeat(300));
        for (path, reason) in [
            ("/x", "Read-only file system"),
            ("/var", "Is a directory"),
            ("/nowhere/x", "No such file or directory"),
            ("/echo.wasm/x", "Not a directory"),
            (long.as_str(), "Filename too long"),
        ] {
            let builder = tandem(&ctd, &image).readonly_rootfs();
            let output = builder.args(["/echo.wasm", "write", path, "x"]).run_to_end().await?;
            assert!(output.code == 1 && output.stderr.contains(reason), "{path}: {}", output.stderr);
        }
        ctd.stop().await
    }

    async fn an_exit_code_is_kept_as_the_kernel_keeps_it(generation: Generation) -> Result<()> {
        let (ctd, image) = start(generation).await?;
        for (said, kept) in [("126", 126), ("137", 137), ("200", 200), ("255", 255), ("256", 0), ("259", 3), ("-1", 255)] {
            let output = tandem(&ctd, &image).args(["/echo.wasm", "exit", said]).run_to_end().await?;
            assert_eq!((output.code, output.stderr.as_str()), (kept, ""), "{said}");
        }
        ctd.stop().await
    }
}
