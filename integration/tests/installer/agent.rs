//! The DaemonSet's process: it opens the node only when a guest has run there, and leaves it only when that is meant.

use std::{
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tandem_integration::{Generation, Result, generation::tandem_installer, on_both_generations};
use tokio::time::sleep;

use super::{
    api::{Api, NAMESPACE, NODE, READY, READY_ALIAS, SET, VERSION, daemon_set},
    node::{Node, PAUSE},
};

fn start(node: &Node, api: &Api, more: &[&str]) -> Child {
    let ready = node.dir().join("ready");
    let mut args = vec!["agent", "--node", NODE, "--namespace", NAMESPACE, "--daemon-set", SET];
    args.extend(["--ready-file", ready.to_str().unwrap()]);
    args.extend(more);
    let mut command = node.command(&args);
    command.env("KUBECONFIG", api.kubeconfig(node.dir()));
    command.spawn().unwrap()
}

/// Serves restarts until something holds.
async fn until(node: &mut Node, what: &str, mut holds: impl FnMut(&Node) -> bool) {
    let since = Instant::now();
    while !holds(node) {
        assert!(since.elapsed() < Duration::from_secs(180), "{what} did not happen");
        node.serve_restart().await;
        sleep(Duration::from_millis(10)).await;
    }
}

/// Ends the agent as the kubelet does.
async fn end(node: &mut Node, mut agent: Child) -> ExitStatus {
    kill(Pid::from_raw(agent.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let mut status = None;
    until(node, "the agent's end", |_| {
        status = agent.try_wait().unwrap();
        status.is_some()
    })
    .await;
    status.unwrap()
}

on_both_generations! {
    async fn the_agent_opens_the_node_and_leaves_it_when_its_daemon_set_goes(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        let before = node.tree();
        let api = Api::start().await;
        let agent = start(&node, &api, &[]);
        until(&mut node, "the label", |_| api.state().labels.get(READY).is_some_and(|value| value == "true")).await;
        assert!(api.state().labels[VERSION].starts_with("0."));
        assert_eq!(api.state().labels[READY_ALIAS], "true", "for selectors that know the earlier name");
        until(&mut node, "readiness", |node| node.dir().join("ready").exists()).await;

        // The pod is replaced, as in a roll-out.
        assert!(end(&mut node, agent).await.success());
        assert_eq!(api.state().labels[READY], "true", "a restart of the pod changes nothing");
        assert_eq!(node.cri.handlers().await, ["runc", "tandem"]);
        assert_eq!(node.restarts, 1);

        // The account is gone before the pod: that says nothing about what is wanted.
        let agent = start(&node, &api, &[]);
        until(&mut node, "readiness", |node| node.dir().join("ready").exists()).await;
        api.state().unknown_account = true;
        assert!(end(&mut node, agent).await.success());
        api.state().unknown_account = false;
        assert_eq!(node.cri.handlers().await, ["runc", "tandem"]);

        // The DaemonSet is being deleted.
        let agent = start(&node, &api, &[]);
        until(&mut node, "readiness", |node| node.dir().join("ready").exists()).await;
        if let Some(set) = &mut api.state().daemon_set {
            set["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        assert!(end(&mut node, agent).await.success());
        assert_eq!(node.tree(), before);
        assert_eq!(node.cri.handlers().await, ["runc"]);
        {
            let state = api.state();
            let left: Vec<&str> = state.labels.keys().map(String::as_str).collect();
            assert_eq!(left, ["pool"], "Tandem's labels go, others stay");
            let reasons: Vec<&str> = state.events.iter().map(|(reason, _)| reason.as_str()).collect();
            assert_eq!(reasons, ["TandemReady", "TandemRemoved"]);
            assert_eq!(state.forbidden, [] as [String; 0], "nothing was asked for that the chart does not grant");
            let used: Vec<&str> = state.used.iter().map(String::as_str).collect();
            assert_eq!(used, ["create events", "get daemonsets", "get nodes", "patch nodes"], "and all of it is needed");
        }
        node.ctd.stop().await
    }

    async fn a_node_that_is_not_selected_any_more_is_drained_and_restored(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        let before = node.tree();
        let api = Api::start().await;
        let agent = start(&node, &api, &["--drain"]);
        until(&mut node, "readiness", |node| node.dir().join("ready").exists()).await;
        let pod = node.cri.run("tandem", "guest", PAUSE, &[]).await;
        api.state().daemon_set = Some(daemon_set(&json!({ "pool": "other" })));
        kill(Pid::from_raw(agent.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        until(&mut node, "the eviction", |_| !api.state().evicted.is_empty()).await;
        // The pods of these tests have their name as uid.
        assert_eq!(api.state().evicted[0], "test/guest guest");
        assert!(!api.state().labels.contains_key(READY), "closed before anything else");
        assert!(!api.state().labels.contains_key(READY_ALIAS));
        node.cri.remove(pod).await;
        let mut agent = agent;
        until(&mut node, "the agent's end", |_| agent.try_wait().unwrap().is_some()).await;
        assert_eq!(node.tree(), before);
        node.ctd.stop().await
    }

    async fn a_dry_run_neither_closes_nor_drains_the_node(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        let api = Api::start().await;
        let config = api.kubeconfig(node.dir());
        node.success(&["install"]).await;
        let pod = node.cri.run("tandem", "guest", PAUSE, &[]).await;
        let installed = node.tree();
        let dry = |args: &[&str]| {
            let output = node.command(args).env("KUBECONFIG", &config).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
            said
        };
        let said = dry(&["uninstall", "--dry-run", "--node", NODE, "--drain"]);
        assert!(said.contains("evict pods: test/guest") && said.contains(READY), "{said}");
        let said = dry(&["install", "--dry-run", "--node", NODE]);
        assert!(said.contains(&format!("label node {NODE}: {READY}")), "{said}");
        assert_eq!(node.tree(), installed);
        assert!(node.cri.pid(&pod).await.is_some());
        assert!(api.state().used.is_empty(), "the API server was not asked for anything");
        node.cri.remove(pod).await;
        node.success(&["uninstall"]).await;
        node.ctd.stop().await
    }

    async fn a_node_that_fails_stays_closed_and_says_why(generation: Generation) -> Result<()> {
        let mut node = Node::start(generation).await?;
        let api = Api::start().await;
        let broken = node.dir().join("broken");
        std::fs::write(&broken, "#!/bin/sh\n[ \"$1\" = -v ] && echo 'Version: 9.9.9' && exit 0\nexit 1\n").unwrap();
        std::process::Command::new("chmod").arg("755").arg(&broken).status().unwrap();
        let agent = start(&node, &api, &["--shim", broken.to_str().unwrap()]);
        until(&mut node, "the event", |_| !api.state().events.is_empty()).await;
        let (reason, message) = api.state().events[0].clone();
        assert_eq!(reason, "TandemVerifyFailed");
        assert!(message.contains("probe") && message.contains("is as before"), "{message}");
        assert!(!api.state().labels.contains_key(READY));
        assert!(!node.dir().join("ready").exists());
        assert_eq!(node.cri.handlers().await, ["runc"]);
        assert!(end(&mut node, agent).await.success());
        node.success(&["uninstall"]).await;
        node.ctd.stop().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_an_agent_without_a_cluster_says_so() -> Result<()> {
    let node = Node::start(Generation::V2).await?;
    let mut command = node.command(&["agent", "--node", NODE, "--namespace", NAMESPACE, "--daemon-set", SET]);
    let output = command.env("KUBECONFIG", "/nonexistent").output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("connect to the API server"), "{said}");
    node.ctd.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_installation_is_refused_while_pods_run_and_tells_of_nodes_left_over() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start().await;
    let config = api.kubeconfig(dir.path());
    let run = async |more: &[&str]| {
        let mut command = tokio::process::Command::new(tandem_installer());
        command
            .args(["retire", "--namespace", NAMESPACE, "--daemon-set", SET])
            .args(more);
        command.env("KUBECONFIG", &config).output().await.unwrap()
    };
    let retire = async || run(&[]).await;
    api.state().labels.insert(VERSION.into(), "1".into());
    let output = run(&["--dry-run"]).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(SET) && said.contains(NODE), "{said}");
    assert!(api.state().daemon_set.is_some(), "a dry run changes nothing");

    api.state().pods = vec!["kata".into(), "tandem".into()];
    let output = retire().await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("1 pods of the RuntimeClass") && said.contains("shop/p"),
        "{said}"
    );
    assert!(api.state().daemon_set.is_some(), "nothing was changed");

    api.state().pods = vec!["kata".into()];
    api.state().labels.insert(VERSION.into(), "1".into());
    let output = retire().await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("were not restored") && said.contains(NODE), "{said}");

    api.state().labels.remove(VERSION);
    let output = retire().await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let used: Vec<String> = api.state().used.iter().cloned().collect();
    assert_eq!(used, ["delete daemonsets", "get daemonsets", "list nodes", "list pods"]);
    assert_eq!(api.state().forbidden, [] as [String; 0]);
    Ok(())
}
