//! Signals as users send them: to containers that are paused, to all processes at once, and while something else is done.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tandem_integration::task::Status;
use tandem_integration::{Code, EventKind, Result, Task, cgroup, deadline, on_both_generations};

use super::shim::{Shim, kill9};
use super::support::{end, running, tandem, with_busybox, with_tools};

/// Output that does not grow any more.
async fn settled(task: &Task) -> String {
    loop {
        let before = task.stdout().text();
        tokio::time::sleep(Duration::from_millis(200)).await;
        if task.stdout().text() == before {
            return before;
        }
    }
}

/// The container's cgroup in every hierarchy.
fn cgroups_of(task: &Task) -> Vec<PathBuf> {
    let all = cgroup::below(&task.session().home().cgroup());
    let own: Vec<PathBuf> = all.into_iter().filter(|dir| dir.ends_with(task.id())).collect();
    assert!(!own.is_empty());
    own
}

/// Makes cgroups below those of the container, as a container does that has its own mounted writable, and puts a process
/// of its own into each; returns where they are.
fn divide(task: &Task) -> Vec<PathBuf> {
    let dirs = cgroups_of(task);
    for dir in &dirs {
        let inner = dir.join("nested/deeper");
        std::fs::create_dir_all(&inner).unwrap();
        // A cpuset takes no process before it has processors of its own.
        if !dir.join("cpuset.cpus").exists() {
            std::fs::write(inner.join("cgroup.procs"), task.pid().to_string()).unwrap();
        }
    }
    dirs
}

fn assert_gone(dirs: &[PathBuf]) {
    let left: Vec<&Path> = dirs.iter().map(PathBuf::as_path).filter(|dir| dir.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

on_both_generations! {
    async fn a_kill_does_not_let_paused_code_run_on(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let counts = ["sh", "-c", "while :; do i=$((i+1)); echo $i; done"];
        for all in [false, true] {
            let (container, task) = running(tandem(&ctd, &image).args(counts)).await?;
            task.stdout().wait_for("100\n").await?;
            task.pause().await?;
            let before = settled(&task).await;
            if all { task.kill_all(9).await? } else { task.kill(9).await? }
            assert_eq!(task.wait().await?.code, 137);
            task.delete().await?;
            assert!(task.stdout().text() == before, "it went on after {} bytes of output", before.len());
            container.remove().await?;
        }
        ctd.stop().await
    }

    async fn a_kill_in_the_middle_of_a_pause_ends_the_container(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        // Many processes take the freezer a moment.
        let script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); sleep 1000 & done; echo up; wait";
        for round in 0..8u64 {
            let (container, task) = running(tandem(&ctd, &image).args(["sh", "-c", script])).await?;
            task.stdout().wait_for("up").await?;
            let killed = async {
                tokio::time::sleep(Duration::from_micros(round * 300)).await;
                task.kill(9).await
            };
            let (paused, killed) = tokio::join!(task.pause(), killed);
            killed?;
            if let Err(refusal) = paused {
                assert_eq!(refusal.code(), Some(Code::FailedPrecondition), "{refusal}");
            }
            assert_eq!(task.wait_for(deadline::SOON).await?.code, 137);
            task.delete().await?;
            container.remove().await?;
        }
        ctd.stop().await
    }

    async fn a_real_time_signal_reaches_all_processes(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let script = "sleep 1000 & echo up; wait $!; echo child $?; exec sleep 1000";
        let (container, task) = running(tandem(&ctd, &image).args(["sh", "-c", script])).await?;
        task.stdout().wait_for("up").await?;
        let real_time = 40;
        task.kill_all(real_time).await?;
        // The first process of a PID namespace gets none that it does not ask for; its child has no such privilege.
        task.stdout().wait_for(&format!("child {}", 128 + real_time)).await?;
        assert_eq!(task.status().await?, Status::Running);
        assert_eq!(task.kill_all(65).await.unwrap_err().code(), Some(Code::InvalidArgument));
        end(container, &task).await?;
        ctd.stop().await
    }

    async fn cgroups_that_a_container_made_below_its_own_go_with_it(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let events = ctd.events().await?;
        let waits = || tandem(&ctd, &image).args(["sh", "-c", "sleep 1000 & echo up; wait"]);
        let hook = |spec: &mut serde_json::Value| {
            spec["hooks"]["poststop"] = serde_json::json!([{ "path": "/bin/true" }]);
        };
        // With hooks a container is deleted another way.
        for builder in [waits(), waits().edit(hook)] {
            let (container, task) = running(builder).await?;
            task.stdout().wait_for("up").await?;
            let dirs = divide(&task);
            task.kill_and_delete().await?;
            assert_gone(&dirs);
            container.remove().await?;
        }
        // And where its shim can do it no more: frozen processes end too.
        for paused in [false, true] {
            let (container, task) = running(waits()).await?;
            task.stdout().wait_for("up").await?;
            let dirs = divide(&task);
            if paused {
                task.pause().await?;
            }
            kill9(Shim::of(&task).service);
            events.wait_for(container.id(), EventKind::Exit).await?;
            let _ = task.delete_only().await;
            let gone = || dirs.iter().all(|dir| !dir.exists()).then_some(());
            deadline::until("the cgroups' removal", deadline::SOON, gone).await?;
            container.remove().await?;
        }
        ctd.stop().await
    }

    async fn a_pause_and_its_opposite_at_once_come_one_after_the_other(generation: Generation) -> Result<()> {
        let (ctd, image) = with_tools(generation).await?;
        let (container, task) = running(tandem(&ctd, &image).args(["/spin.wasm"])).await?;
        for _ in 0..10 {
            let update = task.update(r#"{"pids":{"limit":50}}"#);
            let (paused, resumed, updated) = tokio::join!(task.pause(), task.resume(), update);
            paused?;
            updated?;
            match resumed {
                // It came first, when there was nothing to resume.
                Err(refusal) => {
                    assert_eq!(refusal.code(), Some(Code::FailedPrecondition), "{refusal}");
                    assert_eq!(task.status().await?, Status::Paused);
                    task.resume().await?;
                }
                Ok(()) => assert_eq!(task.status().await?, Status::Running),
            }
        }
        end(container, &task).await?;
        ctd.stop().await
    }
}
