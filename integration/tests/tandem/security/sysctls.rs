//! Kernel parameters of a pod, in its own namespaces; and those that would be the node's, refused.

use serde_json::json;
use tandem_integration::{Code, Result, on_both_generations};

use super::Both;

on_both_generations! {
    async fn parameters_are_set_in_the_containers_namespaces(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let host = |name: &str| std::fs::read_to_string(name).unwrap();
        for (key, path, value) in [
            ("net.ipv4.ip_unprivileged_port_start", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "79"),
            ("kernel.shmmax", "/proc/sys/kernel/shmmax", "123456"),
            ("kernel.shm_rmid_forced", "/proc/sys/kernel/shm_rmid_forced", "1"),
            ("fs.mqueue.msg_max", "/proc/sys/fs/mqueue/msg_max", "20"),
        ] {
            let before = host(path);
            both.each(|b| b.edit(|spec| spec["linux"]["sysctl"] = json!({ key: value })), |seen| {
                assert_eq!(seen.parameter(&["-n", "-i"], path).trim(), value, "{key}");
            }).await?;
            assert_eq!(host(path), before, "{key} of the host changed");
        }
        both.stop().await
    }

    async fn parameters_of_the_node_are_refused_and_named(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for builder in both.waiting() {
            let container = builder.edit(|spec| spec["linux"]["sysctl"] = json!({ "vm.swappiness": "1" })).create().await?;
            let error = container.task().await.unwrap_err();
            assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
            assert!(error.message().contains("vm.swappiness"), "{error}");
            container.remove().await?;
        }
        both.stop().await
    }
}
