//! Hooks of every kind: each runs once, at its time, in its namespace, with the container's state on standard input;
//! and a failing one fails what it belongs to.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tandem_integration::{ContainerBuilder, Result, on_both_generations};

use super::{Both, Running};

/// The kinds in the order in which they run, and whether in the host's mount namespace.
const KINDS: [(&str, bool); 6] = [
    ("prestart", true),
    ("createRuntime", true),
    ("createContainer", false),
    ("startContainer", false),
    ("poststart", true),
    ("poststop", true),
];

/// A hook that records that it ran, in which mount namespace, and its input.
///
/// `startContainer` is a path in the container: the directory is mounted there under its own name.
fn recording(dir: &Path, kind: &str) -> Value {
    let dir = dir.display();
    let script =
        format!("readlink /proc/self/ns/mnt >{dir}/{kind}.ns; cat >{dir}/{kind}.json; echo {kind}:$WORD >>{dir}/order");
    json!({ "path": format!("{dir}/busybox"), "args": ["sh", "-c", script], "env": ["WORD=w", "PATH=/bin:/usr/bin"] })
}

fn recorder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy("/bin/busybox", dir.path().join("busybox")).unwrap();
    for applet in ["sh", "cat", "readlink"] {
        std::os::unix::fs::symlink("busybox", dir.path().join(applet)).unwrap();
    }
    dir
}

fn with_all(builder: ContainerBuilder, dir: &Path, adapted: bool) -> ContainerBuilder {
    let path = dir.to_string_lossy().into_owned();
    let options: &[&str] = if adapted { &["rbind", "rprivate"] } else { &["rbind"] };
    builder.mount(&path, "bind", &path, options).edit(|spec| {
        for (kind, _) in KINDS {
            let mut hook = recording(dir, kind);
            // Applets by their absolute path: an image has no busybox of its own.
            let script = hook["args"][2].as_str().unwrap();
            let script = script
                .replace("readlink", &format!("{path}/readlink"))
                .replace("cat", &format!("{path}/cat"));
            hook["args"][2] = script.into();
            spec["hooks"][kind] = json!([hook]);
        }
    })
}

fn read(dir: &Path, name: &str) -> String {
    let file: PathBuf = dir.join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn failing(builder: ContainerBuilder, kind: &str, hook: Value) -> ContainerBuilder {
    builder.edit(|spec| spec["hooks"][kind] = json!([hook]))
}

on_both_generations! {
    async fn every_kind_runs_once_in_order_and_in_its_namespace(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        let host = std::fs::read_link("/proc/self/ns/mnt").unwrap().to_string_lossy().into_owned();
        for adapted in [false, true] {
            for builder in both.waiting() {
                let dir = recorder();
                let running = Running::start(with_all(builder, dir.path(), adapted)).await?;
                let (pid, id) = (running.task.pid(), running.container.id().to_owned());
                running.end().await?;
                let order = read(dir.path(), "order");
                let mut order: Vec<&str> = order.lines().collect();
                // These two belong to the same call, and the process does not wait for the runtime: nor does it in runc.
                order[3..5].sort_by_key(|line| *line != "startContainer:w");
                let expected: Vec<String> = KINDS.iter().map(|(kind, _)| format!("{kind}:w")).collect();
                assert_eq!(order, expected, "adapted: {adapted}");
                for (kind, on_host) in KINDS {
                    let ns = read(dir.path(), &format!("{kind}.ns"));
                    assert_eq!(ns.trim() == host, on_host, "{kind}, adapted: {adapted}");
                    let state: Value = serde_json::from_str(&read(dir.path(), &format!("{kind}.json"))).unwrap();
                    assert_eq!(state["id"], id.as_str(), "{kind}");
                    let bundle = state["bundle"].as_str().unwrap();
                    assert!(bundle.ends_with(&id), "{kind}: {bundle}");
                    let status = match kind {
                        "poststart" => "running",
                        "poststop" => "stopped",
                        "startContainer" => "created",
                        _ => "creating",
                    };
                    if kind != "startContainer" {
                        assert_eq!(state["status"], status, "{kind}");
                    }
                    if on_host && kind != "poststop" {
                        assert_eq!(state["pid"], pid, "{kind}");
                    }
                }
            }
        }
        both.stop().await
    }

    async fn a_hook_that_fails_before_the_process_runs_fails_the_create(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for kind in ["prestart", "createRuntime", "createContainer"] {
            for builder in both.waiting() {
                let container = failing(builder, kind, json!({ "path": "/bin/false" })).create().await?;
                let error = container.task().await.unwrap_err();
                assert!(error.message().contains("hook"), "{kind}: {error}");
                container.remove().await?;
            }
        }
        both.stop().await
    }

    async fn a_hook_that_hangs_is_ended_by_its_timeout(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for builder in both.waiting() {
            let began = std::time::Instant::now();
            let hook = json!({ "path": "/bin/sleep", "args": ["sleep", "30"], "timeout": 1 });
            let container = failing(builder, "createRuntime", hook).create().await?;
            let error = container.task().await.unwrap_err();
            assert!(error.message().contains("timeout"), "{error}");
            assert!(began.elapsed() < std::time::Duration::from_secs(25), "not by its timeout, but by its own end");
            container.remove().await?;
        }
        both.stop().await
    }

    async fn a_hook_that_fails_at_the_start_ends_the_container(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for builder in both.waiting() {
            // In the container there is no such program.
            let container = failing(builder, "startContainer", json!({ "path": "/nonexistent" })).create().await?;
            let mut task = container.task().await?;
            let _ = task.start().await;
            assert_ne!(task.wait().await?.code, 0);
            assert_eq!(task.stdout().text(), "");
            task.delete().await?;
            container.remove().await?;
        }
        for builder in both.waiting() {
            let container = failing(builder, "poststart", json!({ "path": "/bin/false" })).create().await?;
            let mut task = container.task().await?;
            let error = task.start().await.unwrap_err();
            assert!(error.message().contains("hook"), "{error}");
            // As the specification has it: the container is stopped.
            assert_eq!(task.wait().await?.code, 137);
            task.delete().await?;
            container.remove().await?;
        }
        both.stop().await
    }

    async fn a_hook_that_fails_after_the_end_keeps_nobody(generation: Generation) -> Result<()> {
        let both = Both::start(generation).await?;
        for builder in both.waiting() {
            let running = Running::start(failing(builder, "poststop", json!({ "path": "/bin/false" }))).await?;
            running.end().await?;
        }
        both.stop().await
    }
}
