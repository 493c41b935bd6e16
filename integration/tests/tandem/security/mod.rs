//! The security context of a pod, for Wasm and Linux containers alike: each scenario starts one of each kind with the
//! same spec and looks at both processes from the host.

mod binary;
mod devices;
mod guest_view;
mod handover;
mod hooks;
mod hostile_image;
mod identity;
mod inheritance;
mod mounts;
mod sysctls;
mod userns;

use std::collections::HashMap;
use std::path::PathBuf;

use tandem_integration::image::Image;
use tandem_integration::{Container, ContainerBuilder, Containerd, Generation, Result, Task, image::busybox};

use super::support::{import_guest, tandem};

/// A containerd with an image of each kind.
pub struct Both {
    pub ctd: Containerd,
    pub wasm: Image,
    pub linux: Image,
}

impl Both {
    pub async fn start(generation: Generation) -> Result<Self> {
        let ctd = Containerd::start(generation).await?;
        let wasm = import_guest(&ctd, "echo.wasm").await?;
        let linux = ctd.import(&busybox("example.test/busybox:1")?).await?;
        Ok(Self { ctd, wasm, linux })
    }

    /// Two containers that say "up" and then wait.
    pub fn waiting(&self) -> [ContainerBuilder; 2] {
        let wasm = ["/echo.wasm", "print", "up", "+", "sleep", "1000"];
        let linux = ["sh", "-c", "echo up; exec sleep 1000"];
        [
            tandem(&self.ctd, &self.wasm).args(wasm),
            tandem(&self.ctd, &self.linux).args(linux),
        ]
    }

    /// Two containers that read `path`.
    pub fn reading(&self, path: &str) -> [ContainerBuilder; 2] {
        [
            tandem(&self.ctd, &self.wasm).args(["/echo.wasm", "cat", path]),
            tandem(&self.ctd, &self.linux).args(["cat", path]),
        ]
    }

    /// Two containers that write to `path`.
    pub fn writing(&self, path: &str) -> [ContainerBuilder; 2] {
        let script = format!("echo x >{path}");
        [
            tandem(&self.ctd, &self.wasm).args(["/echo.wasm", "write", path, "x"]),
            tandem(&self.ctd, &self.linux).args(["sh", "-c", &script]),
        ]
    }

    /// Starts one of each kind as `configure` wants it and shows both to `check`.
    pub async fn each(
        &self,
        configure: impl Fn(ContainerBuilder) -> ContainerBuilder,
        check: impl Fn(&Seen),
    ) -> Result<()> {
        for builder in self.waiting() {
            let running = Running::start(configure(builder)).await?;
            check(&Seen {
                pid: running.task.pid(),
            });
            running.end().await?;
        }
        Ok(())
    }

    pub async fn stop(self) -> Result<()> {
        self.ctd.stop().await
    }
}

/// A container that said "up".
pub struct Running {
    pub container: Container,
    pub task: Task,
}

impl Running {
    pub async fn start(builder: ContainerBuilder) -> Result<Self> {
        let container = builder.create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        task.stdout().wait_for("up").await?;
        Ok(Self { container, task })
    }

    pub async fn end(self) -> Result<()> {
        self.task.kill_and_delete().await?;
        self.container.remove().await
    }
}

/// A container's first process, as the host sees it.
pub struct Seen {
    pub pid: u32,
}

impl Seen {
    pub fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.pid)).unwrap()
    }

    /// `/proc/<pid>/status` as a table.
    pub fn status(&self) -> HashMap<String, String> {
        let text = self.proc("status");
        let pair = |line: &str| line.split_once(':').map(|(k, v)| (k.to_owned(), v.trim().to_owned()));
        text.lines().filter_map(pair).collect()
    }

    /// What a kernel parameter is in these namespaces of the process, named as `nsenter` names them.
    pub fn parameter(&self, namespaces: &[&str], path: &str) -> String {
        let target = self.pid.to_string();
        let mut command = std::process::Command::new("nsenter");
        command.args(["-t", &target]).args(namespaces).args(["cat", path]);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{path}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// A path of the container's.
    pub fn path(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.pid).into()
    }

    pub fn link(&self, name: &str) -> String {
        let link = std::fs::read_link(format!("/proc/{}/{name}", self.pid)).unwrap();
        link.to_string_lossy().into_owned()
    }

    /// The last mount at `point`: its own options, its propagation fields, and its file system's options.
    pub fn mount(&self, point: &str) -> (String, String, String) {
        let table = self.proc("mountinfo");
        let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(point));
        let line = line.unwrap_or_else(|| panic!("no mount at {point}:\n{table}"));
        let (before, after) = line.split_once(" - ").unwrap();
        let fields: Vec<&str> = before.split(' ').collect();
        let options = after.split(' ').nth(2).unwrap();
        (fields[5].to_owned(), fields[6..].join(" "), options.to_owned())
    }
}
