//! Many pods on one node, through the kubelet. Times are printed and not judged. Alone on the node
//! (`integration/cluster/test`).

use std::time::Instant;

use crate::harness::{LONG, Namespace, Result, of_each, until};

/// What one node is to hold.
const PODS: &str = "250";

/// Memory of the node that can still be had, in MiB.
fn available(ns: &Namespace) -> Result<i64> {
    let info = ns.cluster.node(&["cat", "/proc/meminfo"])?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
    Ok(kibibytes.unwrap_or_default() / 1024)
}

of_each! {
    fn two_hundred_and_fifty_pods_are_ready_on_one_node(ns) {
        ns.apply("dense")?;
        // The image is there, and its code is compiled.
        ns.ok(&["rollout", "status", "deployment/dense", "--timeout=60s"])?;
        let memory = available(ns)?;
        let began = Instant::now();
        ns.ok(&["scale", "deployment/dense", &format!("--replicas={PODS}")])?;
        ns.ok(&["rollout", "status", "deployment/dense", "--timeout=300s"])?;
        let seconds = began.elapsed().as_secs_f32();
        println!(
            "{PODS} pods of {}: ready after {seconds:.1} s, {:.1} MiB each",
            ns.subject.word(),
            (memory - available(ns)?) as f32 / 249.0,
        );
        for pod in ns.list("pods", "app=dense")? {
            assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{}", pod["metadata"]["name"]);
        }
        ns.ok(&["delete", "deployment/dense"])?;
        until("the end of all pods", LONG, || Ok(ns.list("pods", "app=dense")?.is_empty().then_some(())))
    }
}
