//! Many pods on one node, through the kubelet. Times are printed and not judged. Alone on the node
//! (`integration/cluster/test`).

use std::time::Instant;

use crate::harness::{LONG, Namespace, Result, Subject, until};

/// What one node is to hold.
const PODS: &str = "250";

/// Memory of all processes of the node, what they share divided among them (PSS), in MiB.
fn memory(ns: &Namespace) -> Result<f32> {
    let script = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '$1 == \"Pss:\" { sum += $2 } END { print sum }'";
    let sum = ns.cluster.node(&["sh", "-c", script])?;
    Ok(sum.trim().parse::<f32>().unwrap_or_default() / 1024.0)
}

fn many_pods(ns: &Namespace) -> Result<()> {
    ns.apply("dense")?;
    // The image is there, and its code is compiled.
    ns.ok(&["rollout", "status", "deployment/dense", "--timeout=400s"])?;
    let before = memory(ns)?;
    let began = Instant::now();
    ns.ok(&["scale", "deployment/dense", &format!("--replicas={PODS}")])?;
    ns.ok(&["rollout", "status", "deployment/dense", "--timeout=400s"])?;
    let seconds = began.elapsed().as_secs_f32();
    // Daemons of the node included, which know more pods now.
    let each = (memory(ns)? - before) / 249.0;
    println!(
        "{PODS} pods, {}: ready after {seconds:.1} s, {each:.1} MiB each",
        ns.subject.word()
    );
    for pod in ns.list("pods", "app=dense")? {
        assert_eq!(
            pod["status"]["containerStatuses"][0]["restartCount"], 0,
            "{}",
            pod["metadata"]["name"]
        );
    }
    ns.ok(&["delete", "deployment/dense"])?;
    until("the end of all pods", 2 * LONG, || {
        Ok(ns.list("pods", "app=dense")?.is_empty().then_some(()))
    })
}

mod two_hundred_and_fifty_pods_are_ready_on_one_node {
    use super::*;

    #[test]
    fn wasm() -> Result<()> {
        Namespace::with("dense", Subject::Wasm, many_pods)
    }

    /// The peer, to compare the times with.
    #[test]
    fn runc() -> Result<()> {
        Namespace::with("dense", Subject::Runc, many_pods)
    }
}
