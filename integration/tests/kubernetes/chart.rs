//! How Tandem comes to a cluster and leaves it: the chart, by `helm`. `integration/cluster/test` runs the first test
//! before all others, and the last one after them.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

use crate::harness::{Cluster, Error, LONG, Namespace, Result, SOON, Subject, until, wrong};

const HOME: &str = "tandem-system";
/// What an installer may touch on any kind of node.
const TREE: &str = "cd / && find etc/containerd etc/k0s opt/tandem var/lib/tandem \
                    var/lib/rancher/k3s/agent/etc/containerd -type f -exec sha256sum {} + 2>/dev/null | sort -k 2";

/// Where the first test notes for the last what the nodes were like.
fn before() -> PathBuf {
    Cluster::dir().join("before-tandem")
}

/// The label of each node that sends pods of the RuntimeClass there, empty without one.
fn labels(cluster: &Cluster) -> Result<[String; 2]> {
    let label = |node: &str| {
        let path = r"jsonpath={.metadata.labels.tandem\.dev/ready}";
        cluster.ok(&["get", "node", node, "--output", path])
    };
    Ok([label(cluster.node_name())?, label(cluster.second_name())?])
}

/// What an installer may touch, on both nodes.
fn trees(cluster: &Cluster) -> Result<String> {
    let tree = ["sh", "-c", TREE];
    Ok(format!("{}\n{}", cluster.node(&tree)?, cluster.second(&tree)?))
}

/// What an account asked the API server for and what it was answered, by the audit log: `get nodes`, and whether that
/// was allowed.
fn requests(cluster: &Cluster, account: &str) -> Result<BTreeSet<(String, bool)>> {
    let user = format!("system:serviceaccount:{HOME}:{account}");
    let log = cluster.node(&["cat", cluster.value("TANDEM_AUDIT_LOG")])?;
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(events
        .filter(|event| event["user"]["username"] == user.as_str())
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let resource = text(&event["objectRef"]["resource"]);
            let allowed = event["annotations"]["authorization.k8s.io/decision"] == "allow";
            (format!("{} {resource}", text(&event["verb"])), allowed)
        })
        .collect())
}

/// Requires that an account asked for exactly what it is granted: no more, and no grant is idle.
fn require_exactly(cluster: &Cluster, account: &str, granted: &[&str]) -> Result<()> {
    if cluster.value("TANDEM_AUDIT_LOG").is_empty() {
        println!("this cluster keeps no audit log: the verbs of {account} are not compared");
        return Ok(());
    }
    let granted = granted.iter().map(|request| ((*request).to_owned(), true)).collect();
    let asked = until(&format!("requests of {account}"), SOON, || {
        let asked = requests(cluster, account)?;
        Ok((asked == granted).then_some(asked))
    });
    match asked {
        Ok(_) => Ok(()),
        Err(Error::Deadline { .. }) => wrong(format!(
            "{account} asked for {:?}, granted is {granted:?}",
            requests(cluster, account)?
        )),
        Err(error) => Err(error),
    }
}

#[test]
fn an_installation_makes_the_nodes_ready() -> Result<()> {
    let cluster = Cluster::bare()?;
    fs::write(before(), trees(&cluster)?).map_err(Error::system("cannot write", before()))?;
    assert_eq!(labels(&cluster)?, ["", ""], "Tandem is installed already");

    cluster.ok(&["create", "namespace", HOME])?;
    cluster.ok(&[
        "label",
        "namespace",
        HOME,
        "pod-security.kubernetes.io/enforce=privileged",
    ])?;
    let repository = format!("image.repository={}/tandem", cluster.registry());
    let chart = Cluster::sources().join("deploy/helm/tandem");
    let values = cluster.value("TANDEM_HELM_VALUES").to_owned();
    let chart = chart.to_string_lossy();
    cluster
        .helm(&["install", "tandem", &chart, "--values", &values, "--set", &repository])?
        .success()?;
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
    cluster.ok(&[
        "rollout",
        "status",
        "daemonset/tandem",
        "--namespace",
        HOME,
        "--timeout=150s",
    ])?;

    assert_eq!(labels(&cluster)?, ["true", "true"]);
    let node = cluster.ok(&["get", "node", cluster.node_name(), "--output=json"])?;
    let node: Value = serde_json::from_str(&node).map_err(|cause| Error::Setup(cause.to_string()))?;
    assert!(
        node["metadata"]["labels"]["tandem.dev/version"].is_string(),
        "{}",
        node["metadata"]["labels"]
    );
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

fn is_refused_while_pods_run(ns: &Namespace) -> Result<()> {
    let cluster = ns.cluster;
    ns.apply("life")?;
    ns.ready("guest")?;
    let refusal = cluster.helm(&["uninstall", "tandem", "--timeout=150s"])?;
    assert_ne!(refusal.code, 0, "{refusal}");
    let reason = cluster.ok(&["logs", "job/tandem-uninstall", "--namespace", HOME])?;
    assert!(reason.contains("would lose"), "{reason}");
    assert_eq!(labels(cluster)?, ["true", "true"]);
    assert_eq!(ns.status("guest", "guest")?["restartCount"], 0);
    assert_eq!(ns.exec("guest", &["/echo.wasm", "args"])?.code, 0);
    Ok(())
}

#[test]
fn removal_is_refused_while_pods_run_and_then_leaves_no_trace() -> Result<()> {
    Namespace::with("removal", Subject::Wasm, is_refused_while_pods_run)?;
    let cluster = Cluster::get()?;
    // An ordinary pod, which must not notice.
    let bystander = |args: &[&str]| cluster.ok(&[&["--namespace=default"], args].concat());
    let image = format!("{}/busybox:1", cluster.registry());
    bystander(&[
        "run",
        "bystander",
        "--image",
        &image,
        "--restart=Never",
        "--",
        "sleep",
        "1000",
    ])?;
    bystander(&["wait", "pod/bystander", "--for=condition=Ready", "--timeout=60s"])?;

    cluster.helm(&["uninstall", "tandem", "--timeout=300s"])?.success()?;
    assert_eq!(labels(cluster)?, ["", ""]);
    let earlier = fs::read_to_string(before()).map_err(Error::system("cannot read", before()))?;
    assert_eq!(trees(cluster)?, earlier, "the nodes' files are as before");
    for kind in [
        "runtimeclass",
        "clusterrole",
        "clusterrolebinding",
        "validatingadmissionpolicy",
    ] {
        let left = cluster.ok(&["get", kind, "--output=name"])?;
        assert!(!left.contains("tandem"), "{kind}: {left}");
    }
    let state = bystander(&[
        "get",
        "pod/bystander",
        "--output=jsonpath={.status.containerStatuses[0].restartCount} {.status.phase}",
    ])?;
    assert_eq!(state, "0 Running");
    bystander(&["delete", "pod/bystander", "--grace-period=1"])?;
    // Over the whole life of the installation.
    require_exactly(
        cluster,
        "tandem",
        &["get nodes", "patch nodes", "get daemonsets", "create events"],
    )?;
    require_exactly(
        cluster,
        "tandem-uninstall",
        &["list nodes", "list pods", "get daemonsets", "delete daemonsets"],
    )?;
    cluster.ok(&["delete", "namespace", HOME]).map(drop)
}
