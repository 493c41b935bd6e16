//! The node that the suite runs against: a private containerd 2.x with its CRI service, a pod network and a registry.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use tandem_integration::{Containerd, Cri, Generation, Result, cgroup};

use crate::{child, images, isolation, registry::Registry, suite::Suite};

/// Where Debian and Ubuntu have the network plugins.
const CNI_PLUGINS: &str = "/usr/lib/cni";
/// Name of the pod network, by which the plugins' records of it can be told.
const NETWORK: &str = "tandem-conformance";
/// A subnet of RFC 1918; in a network namespace of one's own it clashes with nobody's.
const SUBNET: &str = "10.88.0.0/16";
/// containerd's namespace for CRI, and the parent of the cgroups of pods that name none.
const CRI: &str = "k8s.io";

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Its containerd.
    pub containerd: Containerd,
    // Dropped in this order: a cgroup can be removed when containerd and its containers are gone.
    cgroups: Cgroups,
    dir: PathBuf,
    registry: Registry,
}

impl Node {
    /// Starts everything and fills the registry.
    ///
    /// # Errors
    /// Where a program is missing or does not come up, or an image cannot be built.
    pub async fn start(suite: &Suite) -> Result<Self> {
        let cgroups = Cgroups::before();
        // A memory file system of one's own: what is mounted and left in it, for instance by specs that fail, ends with
        // the process.
        let dir = PathBuf::from(isolation::SHADOWED[0]).join("conformance");
        let content = suite.content()?;

        let registry = Registry::start(&dir.join("registry")).await?;
        for image in images::all(&content)? {
            registry.pushed().push(&image).await?;
        }
        let hosts = dir.join("hosts");
        child::write(&hosts.join("_default/hosts.toml"), &Registry::hosts())?;
        let networks = dir.join("networks");
        child::write(&networks.join("10-pods.conflist"), &network(&dir.join("ipam")))?;
        child::write(&dir.join("tmp/readme"), "Temporary files of the suite\n")?;

        let cri = Cri {
            sandbox_image: images::SANDBOX.into(),
            cni_conf_dir: networks,
            cni_bin_dir: CNI_PLUGINS.into(),
        };
        let containerd = Containerd::builder(Generation::V2)
            .namespace(CRI)
            .cri(cri)
            .registries(hosts);
        let containerd = containerd.start().await?;
        containerd.import(&images::sandbox(&content)?).await?;
        Ok(Self {
            containerd,
            cgroups,
            dir,
            registry,
        })
    }

    /// Where the suite may leave temporary files.
    pub fn temporary(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// What is left of containers outside of what the harness looks at: cgroups, addresses, files of runc's and of
    /// the network plugins'.
    pub fn remains(&self) -> Vec<String> {
        let new = self.cgroups.since().into_iter();
        let mut remains: Vec<String> = new.map(|group| format!("cgroup {}", group.display())).collect();
        let [run, var] = isolation::SHADOWED.map(Path::new);
        let addresses = self.dir.join("ipam").join(NETWORK);
        for dir in [run.join("containerd"), var.join("cni/results"), addresses] {
            files(&dir, &mut remains);
        }
        // The plugin keeps these with the addresses, for as long as the network exists.
        remains.retain(|file| !file.ends_with("/lock") && !file.contains("/last_reserved_ip."));
        remains
    }

    /// Ends everything.
    pub async fn stop(self) {
        self.containerd.discard();
        self.registry.stop().await;
    }
}

/// The cgroups of CRI's containers, which are beside those of any other containerd on the machine.
#[derive(Debug)]
struct Cgroups {
    before: BTreeSet<PathBuf>,
    had_parent: bool,
}

impl Cgroups {
    fn before() -> Self {
        Self {
            before: cgroup::below(CRI).into_iter().collect(),
            had_parent: cgroup::exists(CRI),
        }
    }

    fn since(&self) -> Vec<PathBuf> {
        let now = cgroup::below(CRI).into_iter();
        now.filter(|group| !self.before.contains(group)).collect()
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        if !self.had_parent {
            cgroup::remove(CRI);
        }
    }
}

/// A bridge with addresses of its own, and ports of the host that lead to pods.
fn network(addresses: &Path) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": addresses,
                    "ranges": [[{ "subnet": SUBNET }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
        ],
    })
    .to_string()
}

fn files(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&path, found);
        } else {
            found.push(format!("file {}", path.display()));
        }
    }
}
