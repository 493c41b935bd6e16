//! What the demo runs.

use tandem_integration::{
    Result, guests,
    image::{Layout, busybox, classic, oci_artifact},
};

/// What a workload does after it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Prints and ends.
    Command,
    /// Prints and stays.
    Daemon,
    /// Answers HTTP on port 8080.
    Server,
}

/// An image, and how to run it.
#[derive(Debug)]
pub struct Workload {
    /// The image's reference.
    pub image: &'static str,
    /// What it is, in a few words.
    pub kind: &'static str,
    /// How it is packaged.
    pub form: &'static str,
    /// What it does.
    pub course: Course,
    /// What to run instead of the image's entrypoint. An artifact has none: the first word is then only a name.
    pub args: Option<Vec<&'static str>>,
    /// Its blobs.
    pub layout: Layout,
}

/// All of them, those first that stay: they run while the others come and go.
///
/// # Errors
/// Where a guest has not been built or the machine has no busybox.
pub fn all() -> Result<Vec<Workload>> {
    const LINUX: &str = "demo.test/busybox:1";
    const HTTP: &str = "demo.test/http-hello:1";
    const MODULE: &str = "demo.test/hello:1";
    const COMPONENT: &str = "demo.test/hello-component:1";
    Ok(vec![
        Workload {
            image: LINUX,
            kind: "Linux program",
            form: "classic image",
            course: Course::Daemon,
            args: Some(vec!["sh", "-c", "echo hello from linux; exec sleep 3600"]),
            layout: busybox(LINUX)?,
        },
        Workload {
            image: HTTP,
            kind: "wasi:http component",
            form: "OCI artifact",
            course: Course::Server,
            args: Some(vec!["http-hello"]),
            layout: oci_artifact(HTTP, &guests::bytes("http-hello.wasm")?),
        },
        Workload {
            image: MODULE,
            kind: "WASI p1 module",
            form: "classic image",
            course: Course::Command,
            args: None,
            layout: classic(MODULE, "/hello.wasm", &guests::bytes("hello.wasm")?, ["/hello.wasm"])?,
        },
        Workload {
            image: COMPONENT,
            kind: "command component",
            form: "OCI artifact",
            course: Course::Command,
            args: Some(vec!["hello-component"]),
            layout: oci_artifact(COMPONENT, &guests::bytes("hello-component.wasm")?),
        },
    ])
}

impl Workload {
    /// The image's name without registry and tag.
    pub fn name(&self) -> &'static str {
        let name = self.image.rsplit('/').next().unwrap_or(self.image);
        name.split(':').next().unwrap_or(name)
    }
}
