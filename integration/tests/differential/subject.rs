//! Who is compared: runc, and Tandem with a Linux program and with a Wasm module. All run on one private containerd.

use std::{env, path::PathBuf, sync::Arc};

use tandem_integration::{
    ContainerBuilder, Containerd, Error, Generation, NetNs, RUNC, Result, TANDEM,
    generation::cache_dir,
    guests,
    image::{Compression, Image, ImageBuilder, Rootfs},
};

use crate::stage::Stage;

/// What a guest prints before its environment, and before its working directory.
pub const ENVIRONMENT: &str = "--- environment ---";
pub const DIRECTORY: &str = "--- directory ---";

/// Who runs a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// runc with a Linux program: what is right.
    Runc,
    /// Tandem with the same Linux program.
    Linux,
    /// Tandem with a Wasm module, of which only the host's view can be compared.
    Wasm,
}

impl Subject {
    /// Both kinds of Tandem's containers.
    pub const TANDEM: &'static [Self] = &[Self::Linux, Self::Wasm];

    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Linux => "linux",
            Self::Wasm => "wasm",
        }
    }
}

/// The containerd and the images. Cheap to clone.
#[derive(Clone)]
pub struct Bench {
    ctd: Arc<Containerd>,
    linux: Image,
    wasm: Image,
}

impl Bench {
    /// Starts it.
    pub async fn start() -> Result<Self> {
        let runc = runc()?;
        // Found before the machine's runc, because the shims' directory is the first of containerd's PATH.
        let ctd = Containerd::builder(Generation::V2).shim("runc", runc).start().await?;
        let linux = files().file("probe", 0o755, &guests::bytes("linux-probe")?);
        let wasm = files().file("probe", 0o755, &guests::bytes("echo.wasm")?);
        let linux = image("example.test/probe:1", &linux)?;
        let wasm = image("example.test/wasm-probe:1", &wasm)?;
        Ok(Self {
            linux: ctd.import(&linux).await?,
            wasm: ctd.import(&wasm).await?,
            ctd: Arc::new(ctd),
        })
    }

    /// A container of `subject` whose process reports and then waits.
    pub fn container(&self, subject: Subject, paths: &[String]) -> ContainerBuilder {
        let paths = paths.iter().map(String::as_str);
        match subject {
            Subject::Runc | Subject::Linux => {
                let runtime = if subject == Subject::Runc { RUNC } else { TANDEM };
                let builder = self.ctd.container(&self.linux).runtime(runtime);
                builder.args(["/probe", "wait"].into_iter().chain(paths))
            }
            Subject::Wasm => {
                let builder = self.ctd.container(&self.wasm).runtime(TANDEM);
                let tell = [
                    "/probe",
                    "print",
                    ENVIRONMENT,
                    "+",
                    "env",
                    "+",
                    "print",
                    DIRECTORY,
                    "+",
                    "cwd",
                    "+",
                ];
                builder.args(
                    tell.into_iter()
                        .chain(["print", crate::report::END, "+", "sleep", "1000"]),
                )
            }
        }
    }

    /// Files of the host for one run.
    pub fn stage(&self) -> Result<Stage> {
        Stage::new(&self.ctd.home().dir, NetNs::new(&self.ctd)?)
    }

    /// The instance's own directory, whose name no report may contain.
    pub fn home(&self) -> String {
        self.ctd.home().dir.to_string_lossy().into_owned()
    }

    /// The end: nothing may be left.
    pub async fn stop(self) -> Result<()> {
        let ctd = Arc::try_unwrap(self.ctd).map_err(|_| Error::Setup("a spec still runs".into()))?;
        ctd.stop().await
    }
}

fn image(name: &str, files: &Rootfs) -> Result<tandem_integration::image::Layout> {
    let builder = ImageBuilder::new(name).files(files, Compression::default())?;
    Ok(builder.entrypoint(["/probe"]).build())
}

/// What an ordinary image has. All mount points are there: a mapped root may not make them in a root that is not its own.
fn files() -> Rootfs {
    let mut files = Rootfs::new();
    for dir in [
        "bin", "data", "dev", "etc", "proc", "run", "sys", "usr", "usr/bin", "v", "var",
    ] {
        files = files.dir(dir, 0o755);
    }
    files
        .dir("tmp", 0o1777)
        .dir("closed", 0o700)
        .file("data/seed", 0o644, b"seed\n")
        .dir("data/sub", 0o750)
        .file("data/sub/deep", 0o600, b"deep\n")
        .file("plain", 0o644, b"not a program\n")
        .file("script", 0o755, b"#!/no/such/interpreter\n")
        .file("garbage", 0o755, b"no program at all\n")
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nbare:x:2000:2000:::\n",
        )
        .file("etc/group", 0o644, b"root:x:0:\napp:x:1000:\nmore:x:3000:app\n")
        .link("var/run", "/run")
        .link("to-data", "/data")
        .link("to-nowhere", "/no/such/place")
        .link("loop", "loop")
        .link("bin/by-path", "/probe")
}

/// The runc that says what is right.
fn runc() -> Result<PathBuf> {
    let file = env::var_os("TANDEM_RUNC").map_or_else(|| cache_dir().join("runc/bin/runc"), PathBuf::from);
    if file.is_file() {
        return Ok(file);
    }
    Err(Error::Setup(format!(
        "{} is missing; `integration/setup runc` builds it, or let TANDEM_RUNC name another",
        file.display()
    )))
}
