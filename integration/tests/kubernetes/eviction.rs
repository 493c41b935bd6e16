//! Pods that must go because of what they take of the node. The kubelet looks at disks now and then only: of the tests that
//! run at once, those that wait for it come early by their name.

use crate::harness::{LONG, of_each, until};

of_each! {
    fn too_much_on_the_nodes_disk_is_evicted(ns) {
        ns.apply("hoarder")?;
        let pod = until("the eviction", LONG, || {
            let pod = ns.get("pod/hoarder")?;
            Ok((pod["status"]["reason"] == "Evicted").then_some(pod))
        })?;
        let message = pod["status"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("EmptyDir volume \"disk\" exceeds the limit"), "{message}");
        Ok(())
    }
}
