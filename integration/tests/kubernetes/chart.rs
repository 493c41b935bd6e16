//! How Tandem comes to a cluster and leaves it: the chart, by `helm`. `integration/cluster/test` runs the first test
//! before all others, and the last one after them.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

use crate::harness::{Cluster, Error, LONG, Namespace, Result, SOON, Subject, until, wrong};

const HOME: &str = "tandem-system";
/// What an installer may touch on any kind of node.
const TREE: &str = "cd / && find etc/containerd etc/k0s opt/tandem var/lib/tandem \
                    var/lib/rancher/k3s/agent/etc/containerd -type f -exec sha256sum {} + 2>/dev/null | sort -k 2";

/// Where the first test notes for the last what the node was like.
fn before() -> PathBuf {
    Cluster::dir().join("before-tandem")
}

/// The node's label that sends pods of the RuntimeClass there, empty without one.
fn label(cluster: &Cluster) -> Result<String> {
    let path = r"jsonpath={.metadata.labels.tandem\.dev/ready}";
    cluster.ok(&["get", "node", cluster.value("TANDEM_NODE"), "--output", path])
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
fn an_installation_makes_the_node_ready() -> Result<()> {
    let cluster = Cluster::bare()?;
    let tree = cluster.node(&["sh", "-c", TREE])?;
    fs::write(before(), tree).map_err(Error::system("cannot write", before()))?;
    assert_eq!(label(&cluster)?, "", "Tandem is installed already");

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
    if !cluster.value("TANDEM_RESTART_NODE_AFTER_INSTALL").is_empty() {
        until("an agent that asks for the node's restart", LONG, || {
            let events = cluster.ok(&["get", "events", "--namespace", "default", "--output=name"])?;
            let asks = cluster.ok(&[
                "get",
                "events",
                "--namespace",
                "default",
                "--output=jsonpath={.items[*].reason}",
            ])?;
            Ok((!events.is_empty() && asks.contains("TandemAwaitsRestart")).then_some(()))
        })?;
        cluster.restart("node")?;
    }
    cluster.ok(&[
        "rollout",
        "status",
        "daemonset/tandem",
        "--namespace",
        HOME,
        "--timeout=150s",
    ])?;

    assert_eq!(label(&cluster)?, "true");
    let node = cluster.ok(&["get", "node", cluster.value("TANDEM_NODE"), "--output=json"])?;
    let node: Value = serde_json::from_str(&node).map_err(|cause| Error::Setup(cause.to_string()))?;
    assert!(
        node["metadata"]["labels"]["tandem.dev/version"].is_string(),
        "{}",
        node["metadata"]["labels"]
    );
    // The kubelet tells it when containerd does.
    let handlers = node["status"]["runtimeHandlers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(
        handlers.iter().any(|handler| handler["name"] == "tandem"),
        "{handlers:?}"
    );
    let handler = cluster.ok(&["get", "runtimeclass", "tandem", "--output=jsonpath={.handler}"])?;
    assert_eq!(handler, "tandem");
    require_exactly(
        &cluster,
        "tandem",
        &["get nodes", "patch nodes", "get daemonsets", "create events"],
    )
}

fn is_refused_while_pods_run(ns: &Namespace) -> Result<()> {
    let cluster = ns.cluster;
    ns.apply("life")?;
    ns.ready("guest")?;
    let refusal = cluster.helm(&["uninstall", "tandem", "--timeout=150s"])?;
    assert_ne!(refusal.code, 0, "{refusal}");
    assert_eq!(label(cluster)?, "true");
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
        "--grace-period=1",
        "--",
        "sleep",
        "1000",
    ])?;
    bystander(&["wait", "pod/bystander", "--for=condition=Ready", "--timeout=60s"])?;

    cluster.helm(&["uninstall", "tandem", "--timeout=300s"])?.success()?;
    assert_eq!(label(cluster)?, "");
    let tree = cluster.node(&["sh", "-c", TREE])?;
    let earlier = fs::read_to_string(before()).map_err(Error::system("cannot read", before()))?;
    assert_eq!(tree, earlier, "the node's files are as before");
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
    bystander(&["delete", "pod/bystander"])?;
    require_exactly(
        cluster,
        "tandem-uninstall",
        &["list nodes", "list pods", "get daemonsets", "delete daemonsets"],
    )?;
    cluster.ok(&["delete", "namespace", HOME]).map(drop)
}
