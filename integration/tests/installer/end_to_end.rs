//! The life of an installation on a node whose pods must not notice.

use tandem_integration::{Result, on_both_generations};

use super::node::{Node, PAUSE};

on_both_generations! {
    async fn a_node_is_set_up_and_restored_while_its_pods_run(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        let pods = [node.cri.run("", "one", PAUSE, &[]).await, node.cri.run("runc", "two", PAUSE, &[]).await];
        let mut pids = Vec::new();
        for pod in &pods {
            pids.push(node.cri.pid(pod).await.unwrap());
        }
        let before = node.tree();
        assert_eq!(node.cri.handlers().await, ["runc"]);

        let plan = node.success(&["plan"]).await;
        assert!(plan.contains("runtimes.tandem]") && plan.contains("restart containerd"), "{plan}");
        assert_eq!(node.tree(), before, "a plan changes nothing");

        let said = node.success(&["install"]).await;
        assert!(said.contains("installed and verified"), "{said}");
        assert_eq!((node.restarts, node.cri.handlers().await), (1, vec!["runc".to_owned(), "tandem".into()]));
        let installed = node.tree();

        let said = node.success(&["install"]).await;
        assert!(said.contains("already"), "{said}");
        assert_eq!(node.restarts, 1, "nothing changed, so nothing is restarted");
        assert_eq!(node.tree(), installed);

        let wasm = node.cri.run("tandem", "three", PAUSE, &[]).await;
        let refusal = node.failure(&["uninstall", "--dry-run"]).await;
        assert!(refusal.contains("test/three"), "a dry run is refused what the command is refused: {refusal}");
        let refusal = node.failure(&["uninstall"]).await;
        assert!(refusal.contains("test/three") && refusal.contains("--drain"), "{refusal}");
        assert_eq!(node.tree(), installed, "a refusal changes nothing");
        assert!(node.cri.pid(&wasm).await.is_some());
        node.cri.remove(wasm).await;

        let said = node.success(&["uninstall", "--dry-run"]).await;
        assert!(said.contains("remove") && said.contains("restart containerd"), "{said}");
        assert_eq!((node.restarts, node.tree()), (1, installed), "a dry run changes nothing");
        let said = node.success(&["uninstall"]).await;
        assert!(said.contains("uninstalled"), "{said}");
        assert_eq!(node.tree(), before, "every byte is as before");
        assert_eq!((node.restarts, node.cri.handlers().await), (2, vec!["runc".to_owned()]));
        for (pod, pid) in pods.iter().zip(pids) {
            assert_eq!(node.cri.pid(pod).await, Some(pid), "the pods never noticed");
        }
        assert!(node.success(&["uninstall"]).await.contains("nothing is installed"));
        for pod in pods {
            node.cri.remove(pod).await;
        }
        node.ctd.stop().await
    }
}
