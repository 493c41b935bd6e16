//! What a node goes through while its pods run: restarts, upgrades, a power cut, a lack of memory. One test at a time,
//! and nothing else beside it (`integration/cluster/test`).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Cluster, LONG, Namespace, Result, of_wasm, until, wrong};
use crate::installation::agents_are_ready;

/// The pods of `life.yaml`.
const PODS: [&str; 3] = ["guest", "hybrid", "ordinary"];

/// What each container is, by pod and name: its id, and how often it was restarted.
type Containers = BTreeMap<String, (String, i64)>;

/// Those of the pods.
fn containers(ns: &Namespace) -> Result<Containers> {
    let mut all = BTreeMap::new();
    for pod in PODS {
        let object = ns.get(&format!("pod/{pod}"))?;
        for status in object["status"]["containerStatuses"].as_array().into_iter().flatten() {
            let name = format!("{pod}/{}", status["name"].as_str().unwrap_or_default());
            let id = status["containerID"].as_str().unwrap_or_default().to_owned();
            all.insert(name, (id, status["restartCount"].as_i64().unwrap_or_default()));
        }
    }
    Ok(all)
}

fn begin(ns: &Namespace) -> Result<Containers> {
    ns.apply("life")?;
    for pod in PODS {
        ns.ready(pod)?;
    }
    containers(ns)
}

/// The pods still are what they were, can be entered, and still print.
fn require_untouched(ns: &Namespace, before: &Containers) -> Result<()> {
    assert_eq!(&containers(ns)?, before);
    for (pod, program) in [("guest", "/echo.wasm"), ("ordinary", "/linux-echo")] {
        let answer = until(&format!("an exec in {pod}"), LONG, || {
            // The kubelet's own connections may just have ended.
            let answer = ns.exec(pod, &[program, "args", "still", "here"])?;
            Ok((answer.code == 0).then_some(answer))
        })?;
        assert!(answer.stdout.contains("still"), "{answer}");
    }
    let lines = |ns: &Namespace| Ok::<_, crate::harness::Error>(ns.kubectl(&["logs", "guest"])?.stdout.lines().count());
    let first = lines(ns)?;
    until("further output of the guest", LONG, || {
        Ok((lines(ns)? > first).then_some(()))
    })?;
    // By now the API server knows what the kubelet does.
    assert_eq!(&containers(ns)?, before);
    Ok(())
}

/// Every container was started anew, once.
fn require_restarted(ns: &Namespace, before: &Containers) -> Result<()> {
    until("the pods' new containers", LONG, || {
        let after = containers(ns)?;
        let new = |(name, (id, count)): (&String, &(String, i64))| *count > before[name].1 && before[name].0 != *id;
        Ok((after.len() == before.len() && after.iter().all(new)).then_some(()))
    })?;
    for pod in PODS {
        ns.ready(pod)?;
    }
    ns.logged(&["guest"], "alive")?;
    // Once, and not again and again.
    let after = containers(ns)?;
    assert!(
        after.iter().all(|(name, (_, count))| *count == before[name].1 + 1),
        "{after:?}"
    );
    Ok(())
}

/// Restarts `containerd` or the `kubelet`, which pods must not notice. Where that ends the whole node (k3d), they come
/// back.
fn restart(ns: &Namespace, what: &str) -> Result<()> {
    let before = containers(ns)?;
    ns.cluster.restart(what)?;
    if ns.cluster.is_one_program() {
        require_restarted(ns, &before)
    } else {
        require_untouched(ns, &before)
    }
}

/// Settings of the node's kubelet beside its usual ones, until this value is dropped.
struct KubeletSettings<'ns> {
    ns: &'ns Namespace,
    file: String,
    ended: bool,
}

impl<'ns> KubeletSettings<'ns> {
    fn with(ns: &'ns Namespace, settings: &str) -> Result<Self> {
        let dir = ns.cluster.value("TANDEM_KUBELET_SETTINGS");
        let these = Self {
            ns,
            file: format!("{dir}/90-tandem-test.conf"),
            ended: false,
        };
        let text = format!("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n{settings}\n");
        let write = "printf %s \"$1\" >\"$2\"";
        ns.cluster.node(&["sh", "-c", write, "sh", &text, &these.file])?;
        restart(ns, "kubelet")?;
        Ok(these)
    }

    fn end(mut self) -> Result<()> {
        self.ended = true;
        self.ns.cluster.node(&["rm", "-f", &self.file])?;
        restart(self.ns, "kubelet")
    }
}

impl Drop for KubeletSettings<'_> {
    fn drop(&mut self) {
        // After a failure the tests that follow want an ordinary node.
        if !self.ended {
            let _ = self.ns.cluster.node(&["rm", "-f", &self.file]);
            let _ = self.ns.cluster.restart("kubelet");
        }
    }
}

/// Bytes of the node's memory that the kubelet takes for available.
fn available(ns: &Namespace) -> Result<u64> {
    let path = format!("/api/v1/nodes/{}/proxy/stats/summary", ns.cluster.node_name());
    let summary: Value = serde_json::from_str(&ns.cluster.ok(&["get", "--raw", &path])?).unwrap_or_default();
    match summary["node"]["memory"]["availableBytes"].as_u64() {
        Some(bytes) => Ok(bytes),
        None => wrong(format!(
            "the kubelet does not say what memory is available: {}",
            summary["node"]
        )),
    }
}

/// New pods of every kind start.
fn require_new_pods(ns: &Namespace) -> Result<()> {
    ns.ok(&[&["delete", "pod"], &PODS[..], &["--grace-period=1"]].concat())?;
    begin(ns).map(drop)
}

/// The shims that run, by the version directory of their program, and how many of each.
fn shims(cluster: &Cluster) -> Result<BTreeMap<String, usize>> {
    // By the file, not by its path: a shim runs from a mount that has none.
    let script = "for program in /opt/tandem/versions/*/containerd-shim-tandem-v1; do \
        find -L /proc/[0-9]*/exe -maxdepth 0 -samefile $program -printf \"$program\\n\" 2>/dev/null; done; true";
    let programs = cluster.node(&["sh", "-c", script])?;
    let mut count = BTreeMap::new();
    for program in programs.lines() {
        *count.entry(program.to_owned()).or_default() += 1;
    }
    Ok(count)
}

of_wasm! {
    fn pods_live_on_while_containerd_restarts(ns) {
        begin(ns)?;
        restart(ns, "containerd")?;
        require_new_pods(ns)
    }

    fn pods_live_on_while_the_kubelet_restarts(ns) {
        begin(ns)?;
        restart(ns, "kubelet")?;
        require_new_pods(ns)
    }

    fn pods_come_back_after_a_power_cut(ns) {
        let before = begin(ns)?;
        ns.cluster.restart("node")?;
        require_restarted(ns, &before)?;
        require_new_pods(ns)
    }

    fn a_guest_that_takes_the_nodes_memory_is_evicted_and_its_neighbours_stay(ns) {
        begin(ns)?;
        // Short of memory is the node with four hundred MiB less; the guest takes twice that.
        let least = available(ns)?.saturating_sub(400 << 20);
        let settings = KubeletSettings::with(ns, &format!("evictionHard: {{memory.available: \"{least}\"}}"))?;
        let before = containers(ns)?;
        ns.apply("hog")?;
        let pod = until("the eviction", LONG, || {
            let pod = ns.get("pod/hog")?;
            Ok((pod["status"]["reason"] == "Evicted").then_some(pod))
        })?;
        let message = pod["status"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("The node was low on resource: memory"), "{message}");
        require_untouched(ns, &before)?;
        settings.end()?;
        until("a node that has memory again", LONG, || {
            let path = "jsonpath={.status.conditions[?(@.type==\"MemoryPressure\")].status} {.spec.taints}";
            Ok((ns.cluster.ok(&["get", "node", ns.cluster.node_name(), "--output", path])?.trim() == "False").then_some(()))
        })?;
        require_new_pods(ns)
    }

    fn an_upgrade_gives_new_pods_the_new_shim_and_leaves_running_ones_alone(ns) {
        let before = begin(ns)?;
        let old = shims(ns.cluster)?;
        assert!(!old.is_empty());
        let chart = Cluster::sources().join("deploy/helm/tandem");
        let chart = chart.to_string_lossy();
        let containerd = ns.cluster.node(&["pgrep", "-o", "-x", "containerd"])?;
        ns.cluster.helm(&["upgrade", "tandem", &chart, "--reuse-values", "--set=image.tag=next"])?.success()?;
        agents_are_ready(ns.cluster)?;
        require_untouched(ns, &before)?;
        // Only the shim has changed, so containerd had nothing to read anew.
        assert_eq!(ns.cluster.node(&["pgrep", "-o", "-x", "containerd"])?, containerd);
        for program in old.keys() {
            assert_eq!(shims(ns.cluster)?.get(program), old.get(program), "the running pods' shims");
        }
        require_new_pods(ns)?;
        let new = shims(ns.cluster)?;
        assert!(new.keys().any(|program| !old.contains_key(program)), "{old:?}, then {new:?}");
        // And back.
        let before = containers(ns)?;
        ns.cluster.helm(&["rollback", "tandem"])?.success()?;
        agents_are_ready(ns.cluster)?;
        require_untouched(ns, &before)?;
        require_new_pods(ns)?;
        let back = shims(ns.cluster)?;
        assert!(!back.is_empty() && back.keys().all(|program| old.contains_key(program)), "{old:?}, then {back:?}");
        Ok(())
    }
}
