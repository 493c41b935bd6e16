//! What both ways of installing Tandem share: the agents' coming up, and what of an installation can be seen.

use serde_json::Value;

use crate::harness::{Cluster, Error, LONG, Result, until};

/// The label by which the RuntimeClass selects nodes.
pub const READY: &str = "tandem.dev.node-restriction.kubernetes.io/ready";
/// The earlier name of that label, which this version sets too.
pub const READY_ALIAS: &str = "tandem.dev/ready";
/// Where the agents are.
pub const HOME: &str = "tandem-system";
/// What an installer may touch on any kind of node.
const TREE: &str = "cd / && find etc/containerd etc/k0s opt/tandem var/lib/tandem \
                    var/lib/rancher/k3s/agent/etc/containerd -type f -exec sha256sum {} + 2>/dev/null | sort -k 2";

/// The label of each node that sends pods of the RuntimeClass there, empty without one. Its earlier name must say the
/// same.
pub fn labels(cluster: &Cluster) -> Result<[String; 2]> {
    let label = |node: &str| {
        let node = json(&cluster.ok(&["get", "node", node, "--output=json"])?)?;
        let value = |key: &str| node["metadata"]["labels"][key].as_str().unwrap_or_default().to_owned();
        assert_eq!(value(READY), value(READY_ALIAS), "{}", node["metadata"]["labels"]);
        Ok::<_, Error>(value(READY))
    };
    Ok([label(cluster.node_name())?, label(cluster.second_name())?])
}

/// What an installer may touch, on both nodes.
pub fn trees(cluster: &Cluster) -> Result<String> {
    let tree = ["sh", "-c", TREE];
    Ok(format!("{}\n{}", cluster.node(&tree)?, cluster.second(&tree)?))
}

/// Waits until the agents are done with the nodes, which are restarted where agents cannot do that.
pub fn agents_come_up(cluster: &Cluster) -> Result<()> {
    if cluster.is_one_program() {
        until("agents that ask for their nodes' restart", LONG, || {
            let asking = "jsonpath={.items[?(@.reason==\"TandemAwaitsRestart\")].involvedObject.name}";
            let asking = cluster.ok(&["get", "events", "--namespace", "default", "--output", asking])?;
            let all = [cluster.node_name(), cluster.second_name()];
            Ok(all
                .iter()
                .all(|node| asking.split_whitespace().any(|name| name == *node))
                .then_some(()))
        })?;
        cluster.restart("node")?;
        cluster.restart("second")?;
    }
    agents_are_ready(cluster)?;
    assert_eq!(labels(cluster)?, ["true", "true"]);
    // The kubelet looks for new handlers when it renews the node's status.
    until("the handler in the node's status", LONG, || {
        let path = "jsonpath={.status.runtimeHandlers[*].name}";
        let handlers = cluster.ok(&["get", "node", cluster.node_name(), "--output", path])?;
        Ok(handlers.split_whitespace().any(|name| name == "tandem").then_some(()))
    })?;
    let handler = cluster.ok(&["get", "runtimeclass", "tandem", "--output=jsonpath={.handler}"])?;
    assert_eq!(handler, "tandem");
    Ok(())
}

/// Waits until the agents of all nodes say that they are done.
pub fn agents_are_ready(cluster: &Cluster) -> Result<()> {
    let rollout = [
        "rollout",
        "status",
        "daemonset/tandem",
        "--namespace",
        HOME,
        "--timeout=400s",
    ];
    cluster.ok(&rollout).map(drop)
}

/// Requires that the API server has no object of Tandem's any more.
pub fn no_object_is_left(cluster: &Cluster) -> Result<()> {
    let kinds = [
        "runtimeclass",
        "clusterrole",
        "clusterrolebinding",
        "validatingadmissionpolicy",
        "validatingadmissionpolicybinding",
    ];
    for kind in kinds {
        let left = cluster.ok(&["get", kind, "--output=name"])?;
        assert!(!left.contains("tandem"), "{kind}: {left}");
    }
    Ok(())
}

/// JSON that a program printed.
pub fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|cause| Error::Setup(format!("{cause}: {text}")))
}
