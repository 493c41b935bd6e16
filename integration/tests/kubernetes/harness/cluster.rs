//! The cluster as `integration/cluster/*` left it.

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tandem_integration::{Error, Result, generation::cache_dir};

use super::{Answer, kubectl, wrong};

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    script: PathBuf,
    /// What `up` wrote: `KUBECONFIG`, `TANDEM_NODE` and so on.
    values: HashMap<String, String>,
    kubectl: PathBuf,
}

impl Cluster {
    /// The cluster that `TANDEM_CLUSTER` and `TANDEM_CLUSTER_DIR` name. The first test that asks looks whether Tandem
    /// is there, and makes the RuntimeClass of the comparison.
    ///
    /// # Errors
    /// Where there is none, or none with Tandem.
    pub fn get() -> Result<&'static Self> {
        static CLUSTER: OnceLock<std::result::Result<Cluster, String>> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(|| Self::find().map_err(|error| error.to_string()));
        cluster.as_ref().map_err(|reason| Error::Setup(reason.clone()))
    }

    fn find() -> Result<Self> {
        let Some(script) = env::var_os("TANDEM_CLUSTER") else {
            return wrong("TANDEM_CLUSTER names no cluster: set it to integration/cluster/local, or run `make test-k8s`");
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(script);
        let dir = env::var_os("TANDEM_CLUSTER_DIR");
        let dir = dir.map_or_else(|| env::temp_dir().join("tandem-cluster"), PathBuf::from);
        let file = dir.join("env");
        let text = fs::read_to_string(&file).map_err(Error::system("no cluster is up: cannot read", &file))?;
        let values = text.lines().filter_map(|line| line.split_once('='));
        let own = cache_dir().join("kubernetes/bin/kubectl");
        let cluster = Self {
            script,
            values: values.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            kubectl: if own.is_file() { own } else { "kubectl".into() },
        };
        cluster.check()?;
        Ok(cluster)
    }

    fn check(&self) -> Result<()> {
        kubectl::run(self.kubectl().args(["get", "runtimeclass", "tandem"]), None)?.success()?;
        let ready = ["get", "nodes", "--selector=tandem.dev/ready=true", "--output=name"];
        if kubectl::run(self.kubectl().args(ready), None)?.success()?.trim().is_empty() {
            return wrong("no node has the label tandem.dev/ready=true: Tandem is not installed in this cluster");
        }
        let runc = fs::read(super::manifest::dir().join("runc.yaml"));
        let runc = runc.map_err(Error::system("cannot read", "runc.yaml"))?;
        kubectl::run(self.kubectl().args(["apply", "--filename=-"]), Some(&runc))?.success()?;
        Ok(())
    }

    /// `kubectl` for this cluster.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", self.value("KUBECONFIG"));
        command
    }

    /// A value of what `up` wrote, empty where there is none.
    pub fn value(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// Where pods pull images from.
    pub fn registry(&self) -> &str {
        self.value("TANDEM_REGISTRY_IN_CLUSTER")
    }

    /// Runs a command as root on the node.
    ///
    /// # Errors
    /// Where it cannot be run, or fails.
    pub fn node(&self, command: &[&str]) -> Result<String> {
        let answer: Answer = kubectl::run(Command::new(&self.script).arg("node").args(command), None)?;
        answer.success()
    }
}
