//! Crashes: of containerd, of the shim, of its zygote, and of several at once.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tandem_integration::image::Image;
use tandem_integration::task::Status;
use tandem_integration::{
    Container, ContainerBuilder, Containerd, EventKind, Events, Leftovers, Result, Task, on_both_generations,
};
use tokio::time::sleep;

use super::shim::{Shim, kill9};
use super::support::{import_guest, tandem, with_busybox, with_guest};

async fn after_the_shims_death(container: &Container, task: &Task, events: &Events) -> Result<()> {
    // containerd notices, runs the `delete` action and publishes the exit.
    let exit = events.wait_for(container.id(), EventKind::Exit).await?;
    assert_eq!(exit.code, 137);
    let _ = task.delete_only().await;
    Ok(())
}

/// A pod of three: what holds it, a guest that computes, a process with a child.
struct Pod {
    containers: Vec<Container>,
}

impl Pod {
    async fn make(ctd: &Containerd, linux: &Image, wasm: &Image) -> Result<Self> {
        let sandbox = tandem(ctd, linux).args(["sleep", "1000"]).sandbox().create().await?;
        let inside = |builder: ContainerBuilder| builder.in_sandbox(sandbox.id()).create();
        let wasm = inside(tandem(ctd, wasm)).await?;
        let linux = inside(tandem(ctd, linux).args(["sh", "-c", "sleep 1000 & sleep 1000"])).await?;
        Ok(Self {
            containers: vec![sandbox, wasm, linux],
        })
    }

    async fn start(&self) -> Result<Vec<Task>> {
        let mut tasks = Vec::new();
        for container in &self.containers {
            let mut task = container.task().await?;
            task.start().await?;
            tasks.push(task);
        }
        Ok(tasks)
    }

    async fn remove(self) -> Result<()> {
        for container in self.containers.into_iter().rev() {
            container.remove().await?;
        }
        Ok(())
    }
}

/// Which process of a shim is killed.
const VICTIMS: [fn(Shim) -> Vec<i32>; 3] = [
    |shim| vec![shim.service],
    |shim| vec![shim.zygote],
    |shim| vec![shim.service, shim.zygote],
];

on_both_generations! {
    async fn a_shim_killed_with_its_container_running_leaves_nothing(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "spin.wasm").await?;
        let events = ctd.events().await?;
        let container = tandem(&ctd, &image).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        kill9(Shim::of(&task).service);
        after_the_shims_death(&container, &task, &events).await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_shim_and_its_zygote_killed_at_once_leave_nothing(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let events = ctd.events().await?;
        let container = tandem(&ctd, &image).args(["sh", "-c", "sleep 1000 & sleep 1000"]).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        let shim = Shim::of(&task);
        kill(Pid::from_raw(shim.zygote), Signal::SIGSTOP).unwrap();
        kill9(shim.service);
        kill9(shim.zygote);
        after_the_shims_death(&container, &task, &events).await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_pod_whose_shim_was_killed_starts_again_under_the_same_ids(generation: Generation) -> Result<()> {
        let (ctd, linux) = with_busybox(generation).await?;
        let wasm = import_guest(&ctd, "spin.wasm").await?;
        let pod = Pod::make(&ctd, &linux, &wasm).await?;
        for victims in VICTIMS {
            let events = ctd.events().await?;
            let tasks = pod.start().await?;
            for victim in victims(Shim::of(&tasks[0])) {
                kill9(victim);
            }
            for (container, task) in pod.containers.iter().zip(&tasks) {
                after_the_shims_death(container, task, &events).await?;
            }
            Leftovers::of(&ctd).assert_clean().await?;
        }
        for task in pod.start().await?.iter().rev() {
            assert_eq!(task.status().await?, Status::Running);
            task.kill_and_delete().await?;
        }
        pod.remove().await?;
        ctd.stop().await
    }

    async fn a_shim_killed_during_create_leaves_nothing_and_the_id_is_free_again(generation: Generation) -> Result<()> {
        let (ctd, linux) = with_busybox(generation).await?;
        let wasm = import_guest(&ctd, "spin.wasm").await?;
        tandem(&ctd, &wasm).create().await?.task().await?.delete_only().await?;
        for moment in [1, 2, 3, 4, 6, 8, 10, 12] {
            for (victims, image) in VICTIMS.into_iter().zip([&linux, &wasm, &linux]) {
                let sandbox = tandem(&ctd, &linux).args(["sleep", "1000"]).sandbox().create().await?;
                let mut pause = sandbox.task().await?;
                pause.start().await?;
                let victims = victims(Shim::of(&pause));
                let container = tandem(&ctd, image).in_sandbox(sandbox.id()).create().await?;
                let killer = tokio::spawn(async move {
                    sleep(Duration::from_millis(moment)).await;
                    for victim in victims {
                        // The second one ends by itself when the first one is gone, perhaps before its turn.
                        let _ = kill(Pid::from_raw(victim), Signal::SIGKILL);
                    }
                });
                let created = container.task().await;
                killer.await.unwrap();
                // What containerd did not clean up by itself goes by a client's delete, or with the sandbox's.
                for task in created.iter().chain([&pause]) {
                    if task.kill(9).await.is_ok() {
                        task.wait().await?;
                    }
                    let _ = task.delete_only().await;
                }
                Leftovers::of(&ctd).assert_clean().await?;
                let again = container.task().await?;
                again.delete_only().await?;
                container.remove().await?;
                sandbox.remove().await?;
            }
        }
        ctd.stop().await
    }

    async fn a_container_outlives_containerd_and_its_exit_is_not_lost(generation: Generation) -> Result<()> {
        let (mut ctd, image) = with_guest(generation, "spin.wasm").await?;
        let container = tandem(&ctd, &image).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        ctd.kill9_and_restart().await?;
        assert_eq!(task.status().await?, Status::Running);
        // It ends while containerd is away.
        let pid = Pid::from_raw(i32::try_from(task.pid()).unwrap());
        ctd.kill9();
        kill(pid, Signal::SIGKILL).unwrap();
        ctd.boot().await?;
        assert_eq!(task.wait().await?.code, 137);
        assert_eq!(task.status().await?, Status::Stopped);
        task.delete_only().await?;
        container.remove().await?;
        ctd.stop().await
    }
}
