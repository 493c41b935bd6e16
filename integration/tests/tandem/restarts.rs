//! containerd comes and goes under its containers: they run on, and what happened meanwhile is told once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tandem_integration::image::Image;
use tandem_integration::task::Status;
use tandem_integration::{Container, Containerd, EventKind, Generation, Result, Task, deadline, on_both_generations};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::shim::kill9;
use super::support::{import_guest, tandem};

/// Pods of the load, each with a Wasm and a Linux container beside the one that holds it.
const PODS: usize = 4;
/// Clients that run short tasks, one after the other.
const CLIENTS: usize = 4;

async fn logged(generation: Generation) -> Result<(Containerd, Image, Image)> {
    let ctd = Containerd::builder(generation).trace().start().await?;
    let linux = ctd
        .import(&tandem_integration::image::busybox("example.test/busybox:1")?)
        .await?;
    let wasm = import_guest(&ctd, "spin.wasm").await?;
    Ok((ctd, linux, wasm))
}

async fn started(container: Container) -> Result<(Container, Task)> {
    let mut task = container.task().await?;
    task.start().await?;
    Ok((container, task))
}

async fn pods(ctd: &Containerd, linux: &Image, wasm: &Image) -> Result<Vec<(Container, Task)>> {
    let mut all = Vec::new();
    for _ in 0..PODS {
        let sandbox = tandem(ctd, linux).args(["sleep", "1000"]).sandbox().create().await?;
        let guest = tandem(ctd, wasm).in_sandbox(sandbox.id()).create().await?;
        let process = tandem(ctd, linux)
            .args(["sleep", "1000"])
            .in_sandbox(sandbox.id())
            .create()
            .await?;
        for container in [sandbox, guest, process] {
            all.push(started(container).await?);
        }
    }
    Ok(all)
}

/// How many exits containerd has taken from shims, by its own debug log.
fn exits_taken(ctd: &Containerd) -> usize {
    let log = std::fs::read_to_string(ctd.home().log()).unwrap();
    let forwarded = log.lines().filter(|line| line.contains("event forwarded"));
    forwarded.filter(|line| line.contains("/tasks/exit")).count()
}

/// containerd renames a bundle (`.id`) before it removes it, and forgets those that it was killed in the middle of.
fn remove_half_removed_bundles(ctd: &Containerd) {
    for data in [ctd.home().state(), ctd.home().root()] {
        let bundles = data
            .join("io.containerd.runtime.v2.task")
            .join(ctd.session().namespace());
        for bundle in std::fs::read_dir(bundles).into_iter().flatten().flatten() {
            if bundle.file_name().to_string_lossy().starts_with('.') {
                let _ = std::fs::remove_dir_all(bundle.path());
            }
        }
    }
}

/// Whatever became of a task while containerd was restarted, in the end it is gone.
pub async fn purge(container: &Container) {
    let session = container.session();
    let id = || container.id().to_owned();
    let mut tasks = session.client().tasks();
    let since = Instant::now();
    while since.elapsed() < deadline::EXIT {
        use tandem_integration::api::services::v1::{DeleteTaskRequest, KillRequest};
        let kill = KillRequest {
            container_id: id(),
            signal: 9,
            ..Default::default()
        };
        let _ = tasks.kill(session.request(kill)).await;
        match tasks
            .delete(session.request(DeleteTaskRequest { container_id: id() }))
            .await
        {
            Ok(_) => return,
            Err(status) if status.code() == tandem_integration::Code::NotFound => return,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

on_both_generations! {
    async fn ends_while_containerd_is_away_are_told_once_when_it_is_back(generation: Generation) -> Result<()> {
        let (mut ctd, linux, wasm) = logged(generation).await?;
        let all = pods(&ctd, &linux, &wasm).await?;
        let mut told = 0;
        for by_force in [false, true] {
            if by_force { ctd.kill9() } else { ctd.shut_down() }
            // Of each pod the Wasm container, then the Linux one.
            let dead: Vec<_> = all.iter().skip(if by_force { 2 } else { 1 }).step_by(3).collect();
            for (_, task) in &dead {
                kill9(i32::try_from(task.pid()).unwrap());
            }
            ctd.boot().await?;
            for (_, task) in &dead {
                assert_eq!(task.wait().await?.code, 137);
                assert_eq!(task.status().await?, Status::Stopped);
            }
            told += dead.len();
            let all_told = || (exits_taken(&ctd) >= told).then_some(());
            deadline::until("the exits' events", deadline::SOON, all_told).await?;
            // What is told and not acknowledged when containerd is killed is rightly told again.
            sleep(Duration::from_secs(1)).await;
        }
        // Time for an event to come twice.
        sleep(Duration::from_millis(1500)).await;
        assert_eq!(exits_taken(&ctd), told);
        for (container, task) in all.into_iter().rev() {
            let _ = task.kill(Signal::SIGKILL as u32).await;
            task.wait().await?;
            task.delete_only().await?;
            container.remove().await?;
        }
        ctd.stop().await
    }

    async fn containers_outlive_restarts_of_containerd_under_load(generation: Generation) -> Result<()> {
        let (mut ctd, linux, wasm) = logged(generation).await?;
        let events = ctd.events().await?;
        let all = pods(&ctd, &linux, &wasm).await?;
        let hello = import_guest(&ctd, "hello.wasm").await?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (over, ended) = (over.clone(), ended.clone());
            let image = if client % 2 == 0 { &hello } else { &linux };
            let builder = tandem(&ctd, image);
            let builder = if client % 2 == 0 { builder } else { builder.args(["true"]) };
            let home = ctd.session().clone();
            clients.spawn(async move {
                let mut ids = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let id = home.home().unique_id();
                    let Ok(container) = builder.clone().id(id).create().await else {
                        sleep(Duration::from_millis(20)).await;
                        continue;
                    };
                    let ran = container.run_to_end().await;
                    if ran.is_err() {
                        purge(&container).await;
                    }
                    ended.fetch_add(usize::from(ran.is_ok()), Ordering::Relaxed);
                    ids.push(container.id().to_owned());
                    let _ = container.remove().await;
                }
                ids
            });
        }
        for round in 0..4 {
            // In the middle of things, and not before every client has had its turn since the last time.
            let enough = ended.load(Ordering::Relaxed) + CLIENTS;
            let busy = || (ended.load(Ordering::Relaxed) >= enough).then_some(());
            deadline::until("tasks between two restarts", deadline::EXIT, busy).await?;
            if round % 2 == 0 {
                ctd.restart().await?;
            } else {
                ctd.kill9_and_restart().await?;
            }
        }
        over.store(true, Ordering::Relaxed);
        let ran: Vec<String> = clients.join_all().await.into_iter().flatten().collect();
        for id in &ran {
            let mut told = events.of(id);
            // One that containerd was killed over comes again, with the time it had.
            told.dedup();
            // An end that containerd makes up, for a shim that it found gone when it came back, is not the shim's.
            let by_shim = |kind| told.iter().filter(|it| it.kind == kind && it.code == 0).count();
            for kind in [EventKind::Create, EventKind::Start, EventKind::Exit, EventKind::Delete] {
                assert!(by_shim(kind) < 2, "{told:?}");
            }
        }
        for (container, task) in all.into_iter().rev() {
            assert_eq!(task.status().await?, Status::Running, "{}", container.id());
            task.kill_and_delete().await?;
            container.remove().await?;
        }
        remove_half_removed_bundles(&ctd);
        ctd.stop().await
    }
}
