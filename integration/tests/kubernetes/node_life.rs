//! What a node goes through while its pods run: restarts, upgrades, a power cut. One test at a time, and nothing else
//! beside it (`integration/cluster/test`).

use std::collections::BTreeMap;

use crate::harness::{Cluster, LONG, Namespace, Result, of_wasm, until};

/// The pods of `life.yaml`.
const PODS: [&str; 3] = ["guest", "hybrid", "ordinary"];
const HOME: &str = "tandem-system";

/// What each container is: its id, and how often it was restarted.
fn containers(ns: &Namespace) -> Result<BTreeMap<String, (String, i64)>> {
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

fn begin(ns: &Namespace) -> Result<BTreeMap<String, (String, i64)>> {
    ns.apply("life")?;
    for pod in PODS {
        ns.ready(pod)?;
    }
    containers(ns)
}

/// The pods still are what they were, can be entered, and still print.
fn require_untouched(ns: &Namespace, before: &BTreeMap<String, (String, i64)>) -> Result<()> {
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
    })
}

/// New pods of every kind start.
fn require_new_pods(ns: &Namespace) -> Result<()> {
    for pod in PODS {
        ns.ok(&["delete", "pod", pod, "--grace-period=1"])?;
    }
    begin(ns).map(drop)
}

/// The shims that run, by the version directory of their program, and how many of each.
fn shims(cluster: &Cluster) -> Result<BTreeMap<String, usize>> {
    let script = "for process in /proc/[0-9]*; do readlink $process/exe; done; true";
    let programs = cluster.node(&["sh", "-c", script])?;
    let mut count = BTreeMap::new();
    for program in programs
        .lines()
        .filter(|line| line.ends_with("/containerd-shim-tandem-v1"))
    {
        *count.entry(program.to_owned()).or_default() += 1;
    }
    Ok(count)
}

fn agents_are_ready(cluster: &Cluster) -> Result<()> {
    cluster
        .ok(&[
            "rollout",
            "status",
            "daemonset/tandem",
            "--namespace",
            HOME,
            "--timeout=150s",
        ])
        .map(drop)
}

of_wasm! {
    fn pods_live_on_while_containerd_restarts(ns) {
        let before = begin(ns)?;
        ns.cluster.restart("containerd")?;
        require_untouched(ns, &before)?;
        require_new_pods(ns)
    }

    fn pods_live_on_while_the_kubelet_restarts(ns) {
        let before = begin(ns)?;
        ns.cluster.restart("kubelet")?;
        require_untouched(ns, &before)?;
        require_new_pods(ns)
    }

    fn pods_come_back_after_a_power_cut(ns) {
        let before = begin(ns)?;
        ns.cluster.restart("node")?;
        let after = until("the pods' new containers", LONG, || {
            let after = containers(ns)?;
            let new = |(name, (id, count)): (&String, &(String, i64))| *count > 0 && before[name].0 != *id;
            Ok((after.len() == before.len() && after.iter().all(new)).then_some(after))
        })?;
        for pod in PODS {
            ns.ready(pod)?;
        }
        // Once, and not again and again.
        assert!(after.values().all(|(_, count)| *count == 1), "{after:?}");
        ns.logged(&["guest"], "alive")?;
        require_new_pods(ns)
    }

    fn an_upgrade_gives_new_pods_the_new_shim_and_leaves_running_ones_alone(ns) {
        let before = begin(ns)?;
        let old = shims(ns.cluster)?;
        let chart = Cluster::sources().join("deploy/helm/tandem");
        let chart = chart.to_string_lossy();
        let containerd = ns.cluster.node(&["pidof", "containerd"])?;
        ns.cluster.helm(&["upgrade", "tandem", &chart, "--reuse-values", "--set=image.tag=next"])?.success()?;
        agents_are_ready(ns.cluster)?;
        require_untouched(ns, &before)?;
        // Only the shim has changed, so containerd had nothing to read anew.
        assert_eq!(ns.cluster.node(&["pidof", "containerd"])?, containerd);
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
        assert!(back.keys().all(|program| old.contains_key(program)), "{old:?}, then {back:?}");
        Ok(())
    }
}
