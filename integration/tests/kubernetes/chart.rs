//! How Tandem comes to a cluster and leaves it: the chart, by `helm`. `integration/cluster/test` runs the first test
//! before all others, and the last one after them.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

use crate::harness::{Cluster, Error, Namespace, Result, SOON, Subject, until, wrong};
use crate::installation::{HOME, agents_come_up, json, labels, no_object_is_left, trees};

/// Where the first test notes for the last what the nodes were like.
fn before() -> PathBuf {
    Cluster::dir().join("before-tandem")
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
    agents_come_up(&cluster)?;
    let node = json(&cluster.ok(&["get", "node", cluster.node_name(), "--output=json"])?)?;
    let labels = &node["metadata"]["labels"];
    assert!(labels["tandem.dev/version"].is_string(), "{labels}");
    Ok(())
}

fn is_refused_while_pods_run(ns: &Namespace) -> Result<()> {
    let cluster = ns.cluster;
    ns.apply("life")?;
    ns.ready("guest")?;
    let refusal = cluster.helm(&["uninstall", "tandem", "--timeout=400s"])?;
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
    bystander(&["wait", "pod/bystander", "--for=condition=Ready", "--timeout=400s"])?;

    cluster.helm(&["uninstall", "tandem", "--timeout=400s"])?.success()?;
    assert_eq!(labels(cluster)?, ["", ""]);
    let earlier = fs::read_to_string(before()).map_err(Error::system("cannot read", before()))?;
    assert_eq!(trees(cluster)?, earlier, "the nodes' files are as before");
    no_object_is_left(cluster)?;
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
