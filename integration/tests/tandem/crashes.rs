//! Crashes: of containerd, of the shim, of both.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tandem_integration::task::Status;
use tandem_integration::{Container, EventKind, Result, Task, on_both_generations};

use super::support::{shim_of, tandem, with_busybox, with_guest};

async fn after_the_shims_death(container: &Container, task: &Task, events: &tandem_integration::Events) -> Result<()> {
    // containerd notices, runs the `delete` action and publishes the exit.
    let exit = events.wait_for(container.id(), EventKind::Exit).await?;
    assert_eq!(exit.code, 137);
    let _ = task.delete_only().await;
    Ok(())
}

on_both_generations! {
    async fn a_shim_killed_with_its_container_running_leaves_nothing(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "spin.wasm").await?;
        let events = ctd.events().await?;
        let container = tandem(&ctd, &image).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        let (shim, _) = shim_of(&task);
        kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
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
        let (shim, zygote) = shim_of(&task);
        kill(Pid::from_raw(zygote), Signal::SIGSTOP).unwrap();
        kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
        kill(Pid::from_raw(zygote), Signal::SIGKILL).unwrap();
        after_the_shims_death(&container, &task, &events).await?;
        container.remove().await?;
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
