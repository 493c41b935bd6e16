//! What containerd's process has besides what it means to hand over: open descriptors, sockets of its service manager,
//! variables. None of it may reach the shim, and so neither a container, nor a hook, nor what is executed later.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use tandem_integration::image::busybox;
use tandem_integration::{Containerd, Generation, Result, generation, on_both_generations};

use super::super::shim::Shim;
use super::super::support::{import_guest, tandem};
use super::{Both, Running};

/// Part of the names and values that must not be seen again.
const LEAK: &str = "containerds-own";
/// Variables that only a service manager's child may have.
const VARIABLES: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

struct Leaky {
    both: Both,
    dir: tempfile::TempDir,
}

impl Leaky {
    /// A containerd whose shims start as they do where it was started with sockets of systemd's, and has files open
    /// without close-on-exec.
    async fn start(generation: Generation) -> Result<Self> {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join(format!("{LEAK}-file"));
        std::fs::write(&open, "secret").unwrap();
        let shim = dir.path().join("shim");
        let script = format!(
            "#!/bin/sh\nexec 3<{open} 4<{open} 9<>{open}\n\
             export LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES={LEAK} HTTPS_PROXY={LEAK}\nexec {shim} \"$@\"\n",
            open = open.display(),
            shim = std::path::absolute(generation::tandem_shim()).unwrap().display(),
        );
        std::fs::write(&shim, script).unwrap();
        std::fs::set_permissions(&shim, Permissions::from_mode(0o755)).unwrap();
        let ctd = Containerd::builder(generation)
            .shim("containerd-shim-tandem-v1", &shim)
            .start()
            .await?;
        let wasm = import_guest(&ctd, "echo.wasm").await?;
        let linux = ctd.import(&busybox("example.test/busybox:1")?).await?;
        Ok(Self {
            both: Both { ctd, wasm, linux },
            dir,
        })
    }
}

/// Environment and descriptors of a process.
fn belongings(pid: i32) -> String {
    let proc = Path::new("/proc").join(pid.to_string());
    let environment = std::fs::read(proc.join("environ")).unwrap();
    let files = std::fs::read_dir(proc.join("fd")).unwrap().flatten();
    let files: Vec<PathBuf> = files.filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
    format!("{} {files:?}", String::from_utf8_lossy(&environment))
}

fn assert_nothing_of_containerds(whose: &str, has: &str) {
    for leak in VARIABLES.into_iter().chain([LEAK]) {
        assert!(!has.contains(leak), "{whose} has {leak}: {has}");
    }
}

on_both_generations! {
    async fn what_containerd_has_open_and_in_its_environment_reaches_nobody(generation: Generation) -> Result<()> {
        let leaky = Leaky::start(generation).await?;
        for builder in leaky.both.waiting() {
            let seen = leaky.dir.path().join("hook");
            let look = format!("export; ls -l /proc/self/fd >>{0}; export >>{0}", seen.display());
            let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", look], "env": ["PATH=/usr/bin:/bin"] });
            let builder = builder.edit(|spec| spec["hooks"] = json!({ "createRuntime": [hook], "poststart": [hook] }));
            let running = Running::start(builder).await?;
            let shim = Shim::of(&running.task);
            for (whose, pid) in [
                ("the service", shim.service),
                ("the zygote", shim.zygote),
                ("the container", running.task.pid().cast_signed()),
            ] {
                assert_nothing_of_containerds(whose, &belongings(pid));
            }
            assert_nothing_of_containerds("a hook", &std::fs::read_to_string(&seen).unwrap());
            std::fs::remove_file(&seen).unwrap();
            running.end().await?;
        }
        let look = ["sh", "-c", "echo up; exec sleep 1000"];
        let linux = tandem(&leaky.both.ctd, &leaky.both.linux).args(look);
        let running = Running::start(linux).await?;
        let output = running.task.exec(["sh", "-c", "export; ls -l /proc/self/fd /proc/1/fd"]).run().await?;
        assert!(output.stdout.contains("PATH"), "{}{}", output.stdout, output.stderr);
        assert_nothing_of_containerds("what is executed later", &output.stdout);
        running.end().await?;
        leaky.both.stop().await
    }

    /// What tells the shim where its containerd and its directories are.
    async fn what_the_shim_needs_of_its_environment_stays(generation: Generation) -> Result<()> {
        let leaky = Leaky::start(generation).await?;
        let [wasm, _] = leaky.both.waiting();
        let running = Running::start(wasm).await?;
        let service = belongings(Shim::of(&running.task).service);
        for needed in ["TANDEM_RUN_DIR=", "TANDEM_CACHE_DIR=", "TTRPC_ADDRESS=", "PATH="] {
            assert!(service.contains(needed), "{needed} is not in {service}");
        }
        let line = std::fs::read(format!("/proc/{}/cmdline", Shim::of(&running.task).service)).unwrap();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        assert!(line.contains("containerd-shim-tandem-v1 -namespace tandem-test"), "{line}");
        running.end().await?;
        leaky.both.stop().await
    }
}
