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
use crate::installation::READY;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    script: PathBuf,
    /// What `up` wrote: `KUBECONFIG`, `TANDEM_NODE` and so on.
    values: HashMap<String, String>,
    kubectl: PathBuf,
    helm: PathBuf,
}

impl Cluster {
    /// The cluster that `TANDEM_CLUSTER` and `TANDEM_CLUSTER_DIR` name. The first test that asks looks whether Tandem
    /// is there, and makes the RuntimeClass of the comparison.
    ///
    /// # Errors
    /// Where there is none, or none with Tandem.
    pub fn get() -> Result<&'static Self> {
        static CLUSTER: OnceLock<std::result::Result<Cluster, String>> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(|| {
            let cluster = Self::bare().map_err(|error| error.to_string())?;
            cluster.check().map_err(|error| error.to_string())?;
            Ok(cluster)
        });
        cluster.as_ref().map_err(|reason| Error::Setup(reason.clone()))
    }

    /// The same cluster, whether or not Tandem is there.
    ///
    /// # Errors
    /// Where there is none.
    pub fn bare() -> Result<Self> {
        let Some(script) = env::var_os("TANDEM_CLUSTER") else {
            return wrong(
                "TANDEM_CLUSTER names no cluster: set it to integration/cluster/local, or run `make test-k8s`",
            );
        };
        let script = Self::sources().join(script);
        let file = Self::dir().join("env");
        let text = fs::read_to_string(&file).map_err(Error::system("no cluster is up: cannot read", &file))?;
        let values = text.lines().filter_map(|line| line.split_once('='));
        let program = |name: &str| {
            let own = cache_dir().join("kubernetes/bin").join(name);
            if own.is_file() { own } else { name.into() }
        };
        Ok(Self {
            script,
            values: values
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            kubectl: program("kubectl"),
            helm: program("helm"),
        })
    }

    /// Where everything of the cluster is.
    pub fn dir() -> PathBuf {
        let dir = env::var_os("TANDEM_CLUSTER_DIR");
        dir.map_or_else(|| env::temp_dir().join("tandem-cluster"), PathBuf::from)
    }

    /// The sources of Tandem: its chart, its examples.
    pub fn sources() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn check(&self) -> Result<()> {
        kubectl::run(self.kubectl().args(["get", "runtimeclass", "tandem"]), None)?.success()?;
        let selector = format!("--selector={READY}=true");
        let ready = ["get", "nodes", &selector, "--output=name"];
        if kubectl::run(self.kubectl().args(ready), None)?
            .success()?
            .trim()
            .is_empty()
        {
            return wrong(format!(
                "no node has the label {READY}=true: Tandem is not installed in this cluster"
            ));
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

    /// Runs `kubectl` for objects of no test's namespace; it must succeed.
    ///
    /// # Errors
    /// Where it does not.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        kubectl::run(self.kubectl().args(args), None)?.success()
    }

    /// Runs `helm` in the namespace of Tandem's own pods, however it ends.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn helm(&self, args: &[&str]) -> Result<Answer> {
        let mut helm = Command::new(&self.helm);
        helm.env("KUBECONFIG", self.value("KUBECONFIG"));
        kubectl::run(helm.args(["--namespace", "tandem-system"]).args(args), None)
    }

    /// A value of what `up` wrote, empty where there is none.
    pub fn value(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// Whether containerd and the kubelet are parts of the program that the node is, so that all restart together.
    pub fn is_one_program(&self) -> bool {
        !self.value("TANDEM_NODE_IS_ONE_PROGRAM").is_empty()
    }

    /// Where pods pull images from.
    pub fn registry(&self) -> &str {
        self.value("TANDEM_REGISTRY_IN_CLUSTER")
    }

    /// The name of the node that tests run on.
    pub fn node_name(&self) -> &str {
        self.value("TANDEM_NODE")
    }

    /// The name of the other node, for pods that tolerate its taint `tandem.dev/second`.
    pub fn second_name(&self) -> &str {
        self.value("TANDEM_SECOND_NODE")
    }

    /// Runs a command as root on the node.
    ///
    /// # Errors
    /// Where it cannot be run, or fails.
    pub fn node(&self, command: &[&str]) -> Result<String> {
        self.on("node", command)
    }

    /// Runs a command as root on the second node.
    ///
    /// # Errors
    /// Where it cannot be run, or fails.
    pub fn second(&self, command: &[&str]) -> Result<String> {
        self.on("second", command)
    }

    fn on(&self, which: &str, command: &[&str]) -> Result<String> {
        let answer: Answer = kubectl::run(Command::new(&self.script).arg(which).args(command), None)?;
        answer.success()
    }

    /// Restarts `containerd`, the `kubelet` or, as a power cut would, the whole `node` or the `second`, and waits for it.
    ///
    /// # Errors
    /// Where it does not come back.
    pub fn restart(&self, what: &str) -> Result<()> {
        kubectl::run(Command::new(&self.script).args(["restart", what]), None)?
            .success()
            .map(drop)
    }
}
