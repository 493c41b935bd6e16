//! A node: a private containerd with CRI, without Tandem, and the installer's program told where everything is.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tandem_integration::{
    Containerd, Cri as CriConfig, Generation, Result,
    generation::{tandem_installer, tandem_shim},
    image::{Compression, ImageBuilder, Rootfs, digest},
};
use tokio::{process::Command, time::sleep};

use super::cri::Cri;

/// The image of sandboxes, and of containers that are to run until they are ended.
pub const PAUSE: &str = "example.test/pause:1";

pub struct Node {
    pub ctd: Containerd,
    pub cri: Cri,
    /// How often the installer had containerd restarted.
    pub restarts: u32,
    /// containerd ends when its directory of network configurations goes.
    _conf: tempfile::TempDir,
}

impl Node {
    pub async fn start(generation: Generation) -> Result<Self> {
        let conf = tempfile::tempdir().unwrap();
        let cri = CriConfig {
            sandbox_image: PAUSE.into(),
            cni_conf_dir: conf.path().into(),
            cni_bin_dir: "/usr/lib/cni".into(),
        };
        let ctd = Containerd::builder(generation)
            .namespace("k8s.io")
            .without_tandem()
            .cri(cri);
        let ctd = ctd.start().await?;
        let busybox = fs::read("/bin/busybox").unwrap();
        let files = Rootfs::new().dir("bin", 0o755).file("bin/busybox", 0o755, &busybox);
        let image = ImageBuilder::new(PAUSE).files(&files, Compression::None)?;
        ctd.import(&image.entrypoint(["/bin/busybox", "sleep", "100000"]).build())
            .await?;
        for dir in ["host/opt", "host/var"] {
            fs::create_dir_all(ctd.home().dir.join(dir)).unwrap();
        }
        let cri = Cri::of(&ctd);
        cri.wait_image(PAUSE).await;
        Ok(Self {
            cri,
            ctd,
            restarts: 0,
            _conf: conf,
        })
    }

    pub fn dir(&self) -> &Path {
        &self.ctd.home().dir
    }

    /// The installer's program with this node's places.
    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let dir = self.dir();
        let mut command = std::process::Command::new(tandem_installer());
        let (request, done) = (dir.join("restart"), dir.join("restarted"));
        // The harness owns the daemon: the command asks it and waits.
        let restart = format!(
            "touch {0}; while [ ! -e {1} ]; do sleep 0.02; done; rm {1}",
            request.display(),
            done.display()
        );
        command
            .args(args)
            .args(["--distribution", "vanilla", "--restart-command", &restart]);
        for (option, path) in [
            ("--config", dir.join("config.toml")),
            ("--containerd", self.ctd.generation().binaries().unwrap().containerd),
            ("--socket", self.ctd.home().socket()),
            ("--install-dir", dir.join("host/opt/tandem")),
            ("--state-dir", dir.join("host/var/tandem")),
            ("--run-dir", self.ctd.home().shim_run()),
        ] {
            command.arg(option).arg(path);
        }
        if !args.contains(&"--shim") {
            command.arg("--shim").arg(tandem_shim());
        }
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs the installer to its end and restarts containerd when it asks for that.
    pub async fn run(&mut self, args: &[&str]) -> Output {
        let mut command = Command::from(self.command(args));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.kill_on_drop(true).spawn().unwrap();
        let end = child.wait_with_output();
        tokio::pin!(end);
        loop {
            tokio::select! {
                output = &mut end => return output.unwrap(),
                () = sleep(Duration::from_millis(10)) => self.serve_restart().await,
            }
        }
    }

    /// Restarts containerd if the installer, or one that was killed meanwhile, has asked for it.
    pub async fn serve_restart(&mut self) {
        let request = self.dir().join("restart");
        if request.exists() {
            fs::remove_file(&request).unwrap();
            self.ctd.restart().await.unwrap();
            self.restarts += 1;
            fs::write(self.dir().join("restarted"), "").unwrap();
        }
    }

    /// Runs the installer and requires its success; answers what it printed.
    pub async fn success(&mut self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{args:?}: {}\n{}\n{}",
            text(&output.stdout),
            text(&output.stderr),
            self.ctd.log()
        );
        text(&output.stdout)
    }

    /// Runs the installer and requires its failure; answers its message.
    pub async fn failure(&mut self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{args:?} did not fail: {errors}");
        errors
    }

    /// Every file that an installer may touch, with its mode and content.
    pub fn tree(&self) -> BTreeMap<PathBuf, String> {
        let mut tree = BTreeMap::new();
        for name in ["config.toml", "conf.d", "host"] {
            collect(&self.dir().join(name), &mut tree);
        }
        tree
    }
}

/// Collects a tree, links as what they hold.
pub fn collect(path: &Path, tree: &mut BTreeMap<PathBuf, String>) {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => panic!("{}: {error}", path.display()),
    };
    let content = if meta.is_dir() {
        "directory".into()
    } else if meta.is_symlink() {
        format!("-> {}", fs::read_link(path).unwrap().display())
    } else {
        digest(&fs::read(path).unwrap())
    };
    let mode = meta.permissions().mode() & 0o7777;
    tree.insert(path.into(), format!("{mode:o} {}:{} {content}", meta.uid(), meta.gid()));
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), tree);
        }
    }
}
