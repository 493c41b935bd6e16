//! What fails is undone: the node is as it was, and the reason is told.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use tandem_integration::{Result, on_both_generations};

use super::node::{Node, PAUSE};

/// A shim that prints a version and can do nothing else.
fn broken_shim(node: &Node) -> PathBuf {
    let path = node.dir().join("broken-shim");
    fs::write(
        &path,
        "#!/bin/sh\n[ \"$1\" = -v ] && echo 'Version: 9.9.9' && exit 0\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

on_both_generations! {
    async fn a_shim_that_cannot_run_the_probe_is_taken_back(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        let pod = node.cri.run("", "witness", PAUSE, &[]).await;
        let pid = node.cri.pid(&pod).await;
        let before = node.tree();
        let shim = broken_shim(&node);
        let said = node.failure(&["install", "--shim", shim.to_str().unwrap()]).await;
        assert!(said.contains("verification failed at probe") && said.contains("is as before"), "{said}");
        let records = node.dir().join("host/var/tandem/install/journal.json");
        assert!(!records.exists(), "nothing is left to be undone");
        assert_eq!(node.restarts, 2, "once with the new files, once with the old ones");
        assert_eq!(node.cri.handlers().await, ["runc"]);
        node.success(&["uninstall"]).await;
        assert_eq!(node.tree(), before);
        assert_eq!(node.cri.pid(&pod).await, pid);
        node.cri.remove(pod).await;
        node.ctd.stop().await
    }

    async fn an_upgrade_switches_new_pods_only_and_can_be_rolled_back(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        let before = node.tree();
        node.success(&["install"]).await;
        let link = node.dir().join("host/opt/tandem/bin/containerd-shim-tandem-v1");
        let first = fs::canonicalize(&link).unwrap();
        let old = node.cri.run("tandem", "old", PAUSE, &[]).await;
        let pid = node.cri.pid(&old).await;

        // Another build: the same program with one byte more behind its sections.
        let shim = node.dir().join("next-shim");
        let mut bytes = fs::read(tandem_integration::generation::tandem_shim()).unwrap();
        bytes.push(0);
        fs::write(&shim, bytes).unwrap();
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
        let shim = shim.to_str().unwrap().to_owned();
        node.success(&["install", "--shim", &shim]).await;
        let second = fs::canonicalize(&link).unwrap();
        assert_ne!(first, second);
        let installed = node.tree();
        let said = node.success(&["rollback", "--dry-run"]).await;
        assert!(said.contains("turn link") && said.contains("not restarted"), "{said}");
        assert_eq!(node.tree(), installed, "a dry run changes nothing");
        assert!(first.exists(), "the version before stays");
        assert_eq!(node.restarts, 1, "only the shim changed, so containerd is not restarted");
        assert_eq!(node.cri.pid(&old).await, pid, "a pod that runs keeps its version");
        let new = node.cri.run("tandem", "new", PAUSE, &[]).await;

        let broken = broken_shim(&node);
        let said = node.failure(&["install", "--shim", broken.to_str().unwrap()]).await;
        assert!(said.contains("is as before"), "{said}");
        assert_eq!(fs::canonicalize(&link).unwrap(), second, "a failed upgrade leaves the version before");

        let said = node.success(&["rollback"]).await;
        assert!(said.contains("new pods start with"), "{said}");
        assert_eq!(fs::canonicalize(&link).unwrap(), first);
        node.success(&["install", "--shim", &shim]).await;
        assert_eq!(fs::canonicalize(&link).unwrap(), first, "what was rolled back from does not come back by itself");
        node.success(&["install", "--force", "--shim", &shim]).await;
        assert_eq!(fs::canonicalize(&link).unwrap(), second);

        for pod in [old, new] {
            assert!(node.cri.pid(&pod).await.is_some());
            node.cri.remove(pod).await;
        }
        assert_eq!(node.restarts, 1);
        node.success(&["uninstall"]).await;
        assert_eq!(node.tree(), before);
        node.ctd.stop().await
    }

    async fn what_others_changed_after_the_installation_stays(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        node.success(&["install"]).await;
        let config = node.dir().join("config.toml");
        let edited = format!("# by the admin\n{}\n[debug]\n  level = \"info\"\n", fs::read_to_string(&config).unwrap());
        fs::write(&config, &edited).unwrap();
        node.success(&["uninstall"]).await;
        let left = fs::read_to_string(&config).unwrap();
        assert!(left.starts_with("# by the admin\n") && left.ends_with("[debug]\n  level = \"info\"\n"), "{left}");
        assert!(!left.contains("tandem") && !left.contains("conf.d"), "{left}");
        assert!(!node.dir().join("conf.d").exists());
        assert_eq!(node.cri.handlers().await, ["runc"]);
        node.ctd.stop().await
    }

    async fn two_installers_at_once_do_not_meet(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        let mut first = node.command(&["install"]).spawn().unwrap();
        while !node.dir().join("restart").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let output = node.command(&["install"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("another installer works on this host"), "{said}");
        node.serve_restart().await;
        assert!(first.wait().unwrap().success());
        node.success(&["uninstall"]).await;
        node.ctd.stop().await
    }
}
