//! What is measured: a runtime together with what it runs.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tandem_integration::{
    Container, Containerd, Error, Result, guests,
    image::{self, Image},
};

use crate::runtime::Runtime;

/// What a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// A p1 module that is the layer of an OCI artifact.
    Layer,
    /// The same module as a file in the root file system of a classic image.
    Rootfs,
    /// `echo` of a static busybox.
    Busybox,
    /// Nothing: the shim itself writes a line.
    Nothing,
}

impl Workload {
    /// The ways a module comes in an image.
    pub const WASM: [Self; 2] = [Self::Layer, Self::Rootfs];
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Layer => "p1 hello, OCI layer",
            Self::Rootfs => "p1 hello, in the rootfs",
            Self::Busybox => "busybox echo",
            Self::Nothing => "nothing",
        })
    }
}

/// A runtime with what it runs.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The runtime.
    pub runtime: Runtime,
    /// What it runs.
    pub workload: Workload,
    image: Image,
    args: &'static [&'static str],
    /// What the task writes to standard output.
    pub output: &'static str,
    /// Why tasks of it had to be repeated.
    failures: Arc<Mutex<Vec<String>>>,
}

impl Subject {
    /// Makes a container, with its snapshot, whose task is to be measured.
    ///
    /// # Errors
    /// Where containerd refuses.
    pub async fn container(&self, ctd: &Containerd) -> Result<Container> {
        let container = ctd.container(&self.image).runtime(self.runtime.id());
        container.args(self.args.iter().copied()).create().await
    }

    /// Notes that a task failed. A peer's may, now and then (libcontainer 0.6, which the baseline stands on, has a
    /// race in its start): its rare failure is published, not taken for the end of the comparison.
    ///
    /// # Errors
    /// The failure itself, where the subject is no peer or has failed too often to be compared with.
    pub fn excuse(&self, error: Error) -> Result<()> {
        const EXCUSED: usize = 20;
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if self.runtime == Runtime::Tandem || failures.len() >= EXCUSED {
            return Err(self.failed(&error));
        }
        failures.push(error.to_string());
        Ok(())
    }

    /// Why tasks of it had to be repeated so far.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Names this subject in an error.
    pub fn failed(&self, error: &Error) -> Error {
        Error::Setup(format!("{} ({}): {error}", self.runtime.name(), self.workload))
    }
}

/// All subjects of these runtimes; their images are imported.
///
/// # Errors
/// A guest or busybox that is missing; containerd's refusal of an image.
pub async fn all(ctd: &Containerd, runtimes: &[Runtime]) -> Result<Vec<Subject>> {
    const MODULE: &str = "/hello.wasm";
    let wasm = guests::bytes("hello.wasm")?;
    let layer = image::oci_artifact("example.test/layer:1", &wasm);
    let layer = ctd.import(&layer).await?;
    let rootfs = image::classic("example.test/rootfs:1", MODULE, &wasm, [MODULE])?;
    let rootfs = ctd.import(&rootfs).await?;

    let mut subjects = Vec::new();
    for &runtime in runtimes {
        let mut add = |workload, image: &Image, args, output| {
            subjects.push(Subject {
                runtime,
                workload,
                image: image.clone(),
                args,
                output,
                failures: Arc::default(),
            });
        };
        match runtime {
            Runtime::Tandem | Runtime::Baseline => {
                add(Workload::Layer, &layer, &["hello.wasm"], "hello from wasm\n");
                add(Workload::Rootfs, &rootfs, &[MODULE], "hello from wasm\n");
            }
            Runtime::Runc => {
                let busybox = ctd.import(&image::busybox("example.test/busybox:1")?).await?;
                add(
                    Workload::Busybox,
                    &busybox,
                    &["echo", "hello from linux"],
                    "hello from linux\n",
                );
            }
            Runtime::Floor => add(Workload::Nothing, &rootfs, &[MODULE], "floor\n"),
        }
    }
    Ok(subjects)
}
