//! Calls that meet: kills during Create and Start, deletes by force and at the same time, ends before anyone waits.

use std::time::{Duration, Instant};

use tandem_integration::api::services::v1::{DeleteTaskRequest, KillRequest};
use tandem_integration::image::Image;
use tandem_integration::task::Status;
use tandem_integration::{
    Code, Container, ContainerBuilder, Containerd, Error, EventKind, Events, Generation, Leftover, Leftovers, Result,
    Task, deadline, on_both_generations,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::support::{import_guest, tandem, with_busybox};

/// Where in a call another one strikes: from before its begin to after its end.
const MOMENTS: [u64; 8] = [0, 1, 2, 4, 6, 9, 13, 20];

/// A Wasm and a Linux container that run until they are killed.
struct Pair {
    ctd: Containerd,
    events: Events,
    wasm: Image,
    linux: Image,
}

impl Pair {
    async fn start(generation: Generation) -> Result<Self> {
        let (ctd, linux) = with_busybox(generation).await?;
        let wasm = import_guest(&ctd, "spin.wasm").await?;
        let pair = Self {
            events: ctd.events().await?,
            ctd,
            wasm,
            linux,
        };
        // Once, so that no later Create compiles.
        let container = pair.wasm().create().await?;
        container.task().await?.delete_only().await?;
        container.remove().await?;
        Ok(pair)
    }

    fn wasm(&self) -> ContainerBuilder {
        tandem(&self.ctd, &self.wasm)
    }

    fn linux(&self) -> ContainerBuilder {
        tandem(&self.ctd, &self.linux).args(["sh", "-c", "trap 'exit 143' TERM; sleep 1000 & wait"])
    }

    fn both(&self) -> [ContainerBuilder; 2] {
        [self.wasm(), self.linux()]
    }
}

/// Nobody may have an end without a begin, two ends, or an end after its deletion.
async fn assert_told_in_order(events: &Events, container: &Container) -> Result<()> {
    events.wait_for(container.id(), EventKind::Delete).await?;
    let kinds = events.kinds_of(container.id());
    let whole = [EventKind::Create, EventKind::Start, EventKind::Exit, EventKind::Delete];
    let unstarted = [EventKind::Create, EventKind::Exit, EventKind::Delete];
    assert!(kinds == whole || kinds == unstarted, "{kinds:?}");
    Ok(())
}

/// Requires success, or a failure with one of these codes.
pub fn allowed(result: Result<()>, codes: &[Code]) {
    if let Err(error) = result {
        assert!(error.code().is_some_and(|code| codes.contains(&code)), "{error}");
    }
}

/// Waits until nothing is left of a task whose client gave up on its Create. Mostly containerd takes it away; but where
/// the answer was on its way already the task exists, and is the client's to delete.
pub async fn remove_abandoned(container: &Container) -> Result<()> {
    let delete = async || {
        let session = container.session();
        let request = DeleteTaskRequest {
            container_id: container.id().to_owned(),
        };
        let mut tasks = session.client().tasks();
        let call = tasks.delete(session.request(request));
        session.call("tasks.Delete", container.id(), call).await
    };
    let leftovers = Leftovers::of_container(container);
    for _ in 0..50 {
        let found = leftovers.found().await?;
        if found.is_empty() {
            return Ok(());
        }
        if found.iter().any(|leftover| matches!(leftover, Leftover::Task(_))) {
            allowed(delete().await.map(drop), &[Code::NotFound]);
        }
        sleep(Duration::from_millis(20)).await;
    }
    leftovers.assert_clean().await
}

/// Ends whatever there is of a task, by force as a user would, and its container.
async fn end(task: &Task, container: Container) -> Result<()> {
    task.kill_and_delete().await?;
    container.remove().await
}

on_both_generations! {
    async fn a_kill_during_create_ends_the_task_or_is_refused(generation: Generation) -> Result<()> {
        let pair = Pair::start(generation).await?;
        for moment in MOMENTS {
            for (builder, signal) in pair.both().into_iter().zip([9, 15]) {
                let container = builder.create().await?;
                let killer = {
                    let session = container.session().clone();
                    let id = container.id().to_owned();
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(moment)).await;
                        let request = KillRequest {
                            container_id: id.clone(),
                            signal,
                            ..Default::default()
                        };
                        let mut tasks = session.client().tasks();
                        let call = tasks.kill(session.request(request));
                        session.call("tasks.Kill", &id, call).await
                    })
                };
                let task = container.task().await?;
                let killed = killer.await.unwrap();
                let (hit, by_force) = (killed.is_ok(), signal == 9);
                allowed(killed, &[Code::NotFound, Code::FailedPrecondition]);
                // A first process of a PID namespace that handles no signal yet takes SIGKILL only.
                if hit && by_force {
                    assert_eq!(task.wait().await?.code, 137);
                    task.delete_only().await?;
                } else {
                    task.kill_and_delete().await?;
                }
                assert_told_in_order(&pair.events, &container).await?;
                container.remove().await?;
            }
        }
        pair.ctd.stop().await
    }

    async fn a_kill_during_start_ends_the_task(generation: Generation) -> Result<()> {
        let pair = Pair::start(generation).await?;
        for moment in MOMENTS {
            for (builder, signal) in pair.both().into_iter().zip([15, 9]) {
                let container = builder.create().await?;
                let mut task = container.task().await?;
                let starter = tokio::spawn(async move {
                    let started = task.start().await;
                    (task, started)
                });
                sleep(Duration::from_micros(moment * 300)).await;
                let request = KillRequest {
                    container_id: container.id().to_owned(),
                    signal,
                    ..Default::default()
                };
                let session = container.session();
                let mut tasks = session.client().tasks();
                let call = tasks.kill(session.request(request));
                session.call("tasks.Kill", container.id(), call).await?;
                let (task, started) = starter.await.unwrap();
                // A Start that comes after the end is refused.
                if let Err(error) = started {
                    assert!(error.message().contains("cannot be started") || error.message().contains("stopped"), "{error}");
                }
                let exit = task.wait().await?;
                assert_eq!(exit.code, 128 + signal);
                task.delete().await?;
                assert_told_in_order(&pair.events, &container).await?;
                container.remove().await?;
            }
        }
        pair.ctd.stop().await
    }

    async fn a_client_that_gives_up_on_create_leaves_nothing(generation: Generation) -> Result<()> {
        let pair = Pair::start(generation).await?;
        for moment in MOMENTS {
            for builder in pair.both() {
                let container = builder.create().await?;
                let _ = timeout(Duration::from_millis(moment), container.task()).await;
                remove_abandoned(&container).await?;
                Leftovers::of(&pair.ctd).assert_clean().await?;
                // Its id is free again, at the latest once containerd is done with the bundle.
                let since = Instant::now();
                let mut again = container.task().await;
                while again.is_err() && since.elapsed() < deadline::SOON {
                    sleep(Duration::from_millis(100)).await;
                    again = container.task().await;
                }
                again?.delete_only().await?;
                container.remove().await?;
            }
        }
        pair.ctd.stop().await
    }

    async fn a_running_task_is_deleted_by_force(generation: Generation) -> Result<()> {
        let pair = Pair::start(generation).await?;
        for builder in pair.both() {
            let container = builder.create().await?;
            let mut task = container.task().await?;
            task.start().await?;
            assert_eq!(task.delete_only().await.unwrap_err().code(), Some(Code::FailedPrecondition));
            assert_eq!(task.status().await?, Status::Running, "a refused delete changes nothing");
            pair.ctd.ctr(["tasks", "rm", "-f", container.id()]).await?;
            assert_eq!(task.state().await.unwrap_err().code(), Some(Code::NotFound));
            assert_told_in_order(&pair.events, &container).await?;
            container.remove().await?;
        }
        pair.ctd.stop().await
    }

    async fn of_simultaneous_deletes_one_succeeds_and_the_others_find_nothing(generation: Generation) -> Result<()> {
        let pair = Pair::start(generation).await?;
        for builder in pair.both() {
            let container = builder.create().await?;
            let mut task = container.task().await?;
            task.start().await?;
            task.kill(9).await?;
            task.wait().await?;
            let task = std::sync::Arc::new(task);
            let mut deletes = JoinSet::new();
            for _ in 0..8 {
                let task = task.clone();
                deletes.spawn(async move { task.delete_only().await });
            }
            let results: Vec<_> = deletes.join_all().await;
            let deleted = results.iter().filter(|result| result.is_ok()).count();
            assert_eq!(deleted, 1, "{results:?}");
            for error in results.into_iter().filter_map(std::result::Result::err) {
                // A call on its way when the shim ends may find the connection closed.
                assert!(error.code() == Some(Code::NotFound) || error.message().contains("ttrpc: closed"), "{error}");
            }
            assert_told_in_order(&pair.events, &container).await?;
            container.remove().await?;
        }
        pair.ctd.stop().await
    }

    async fn a_task_that_ended_before_anyone_waited_tells_its_exit_to_all_who_ask(generation: Generation) -> Result<()> {
        let pair = Pair::start(generation).await?;
        let image = import_guest(&pair.ctd, "exit7.wasm").await?;
        let wasm = tandem(&pair.ctd, &image);
        let linux = tandem(&pair.ctd, &pair.linux).args(["sh", "-c", "exit 7"]);
        for builder in [wasm, linux] {
            let container = builder.create().await?;
            let mut task = container.task().await?;
            task.start().await?;
            pair.events.wait_for(container.id(), EventKind::Exit).await?;
            let task = std::sync::Arc::new(task);
            let mut waits = JoinSet::new();
            for _ in 0..16 {
                let task = task.clone();
                waits.spawn(async move { task.wait().await.map(|exit| exit.code) });
            }
            let codes: Result<Vec<u32>> = waits.join_all().await.into_iter().collect();
            assert_eq!(codes?, [7; 16]);
            assert_eq!(task.kill(15).await.unwrap_err().code(), Some(Code::NotFound));
            task.delete().await?;
            container.remove().await?;
        }
        pair.ctd.stop().await
    }

    async fn a_second_create_of_the_same_task_is_refused_and_the_first_runs_on(generation: Generation) -> Result<()> {
        let pair = Pair::start(generation).await?;
        for builder in pair.both() {
            let container = std::sync::Arc::new(builder.create().await?);
            let mut creates = JoinSet::new();
            for _ in 0..4 {
                let container = container.clone();
                creates.spawn(async move { container.task().await });
            }
            let (tasks, refusals): (Vec<Result<Task>>, Vec<_>) = creates.join_all().await.into_iter().partition(Result::is_ok);
            assert_eq!((tasks.len(), refusals.len()), (1, 3));
            for error in refusals.into_iter().filter_map(Result::err) {
                assert!(error.message().contains("exists"), "{error}");
            }
            let [Ok(mut task)]: [Result<Task, Error>; 1] = tasks.try_into().unwrap() else { panic!() };
            task.start().await?;
            end(&task, std::sync::Arc::into_inner(container).unwrap()).await?;
        }
        pair.ctd.stop().await
    }
}
