//! Limits and what becomes of those who reach them; pausing.

use std::time::Duration;

use tandem_integration::image::Image;
use tandem_integration::task::Status;
use tandem_integration::{Code, Containerd, EventKind, Result, Task, deadline, on_both_generations};

use super::support::{tandem, with_busybox, with_guest};

/// A guest and a shell that use all the processor time they get.
async fn busy(ctd: &Containerd, image: &Image, args: &[&str]) -> Result<Task> {
    let container = tandem(ctd, image).args(args.iter().copied()).create().await?;
    let mut task = container.task().await?;
    task.start().await?;
    Ok(task)
}

/// Pauses it, sees that it stands still, and resumes it.
async fn stands_still_while_paused(ctd: &Containerd, image: &Image, args: &[&str]) -> Result<()> {
    let events = ctd.events().await?;
    let task = busy(ctd, image, args).await?;
    task.pause().await?;
    assert_eq!(task.status().await?, Status::Paused);
    let before = task.stats().await?.cpu_ns;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let after = task.stats().await?.cpu_ns;
    assert!(after - before < 5_000_000, "{} ns while paused", after - before);
    assert_eq!(task.pause().await.unwrap_err().code(), Some(Code::FailedPrecondition));
    let exec = task.exec(["/bin/true"]).add().await.map(drop).unwrap_err();
    assert_eq!(exec.code(), Some(Code::FailedPrecondition), "{exec}");
    task.resume().await?;
    assert_eq!(task.status().await?, Status::Running);
    assert_eq!(task.resume().await.unwrap_err().code(), Some(Code::FailedPrecondition));
    deadline::within("running on after the pause", deadline::SOON, async {
        while task.stats().await?.cpu_ns - after < 5_000_000 {
            tokio::time::sleep(deadline::POLL).await;
        }
        Result::Ok(())
    })
    .await??;
    task.kill(9).await?;
    assert_eq!(task.wait().await?.code, 137);
    task.delete().await?;
    events.wait_for(task.id(), EventKind::Delete).await?;
    let expected = [
        EventKind::Create,
        EventKind::Start,
        EventKind::Paused,
        EventKind::Resumed,
        EventKind::Exit,
        EventKind::Delete,
    ];
    assert_eq!(events.kinds_of(task.id()), expected);
    Ok(())
}

async fn limits_change_while_it_runs(task: &Task) -> Result<()> {
    let shares = task.cgroup_file("cpu.shares", "cpu.weight")?;
    task.update(r#"{"memory":{"limit":134217728},"cpu":{"quota":50000,"period":100000},"pids":{"limit":77}}"#)
        .await?;
    assert_eq!(task.cgroup_file("memory.limit_in_bytes", "memory.max")?, "134217728");
    assert_eq!(task.cgroup_file("pids.max", "pids.max")?, "77");
    let quota = task.cgroup_file("cpu.cfs_quota_us", "cpu.max")?;
    assert!(quota.starts_with("50000"), "{quota}");
    assert_eq!(
        task.cgroup_file("cpu.shares", "cpu.weight")?,
        shares,
        "not mentioned, not changed"
    );
    task.update(r#"{"memory":{"limit":268435456}}"#).await?;
    assert_eq!(task.stats().await?.memory_limit, 268_435_456);
    assert_eq!(task.cgroup_file("pids.max", "pids.max")?, "77");
    let refused = task.update(r#"{"cpu":{"quota":1,"period":100000}}"#).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::InvalidArgument), "{refused}");
    assert!(refused.to_string().contains("cpu"), "{refused}");
    task.kill_and_delete().await?;
    Ok(())
}

on_both_generations! {
    async fn a_paused_container_stands_still_until_it_is_resumed(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "spin.wasm").await?;
        stands_still_while_paused(&ctd, &image, &["/spin.wasm"]).await?;
        ctd.stop().await?;
        let (ctd, image) = with_busybox(generation).await?;
        stands_still_while_paused(&ctd, &image, &["sh", "-c", "while :; do :; done"]).await?;
        ctd.stop().await
    }

    async fn a_paused_container_can_be_killed_and_deleted(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "spin.wasm").await?;
        let task = busy(&ctd, &image, &["/spin.wasm"]).await?;
        task.pause().await?;
        assert_eq!(task.delete_only().await.unwrap_err().code(), Some(Code::FailedPrecondition));
        task.kill(9).await?;
        assert_eq!(task.wait().await?.code, 137);
        assert_eq!(task.status().await?, Status::Stopped);
        task.delete().await?;
        ctd.stop().await
    }

    async fn only_a_running_container_can_be_paused(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "exit7.wasm").await?;
        let container = tandem(&ctd, &image).create().await?;
        let mut task = container.task().await?;
        assert_eq!(task.pause().await.unwrap_err().code(), Some(Code::FailedPrecondition));
        task.start().await?;
        task.wait().await?;
        assert_eq!(task.pause().await.unwrap_err().code(), Some(Code::FailedPrecondition));
        assert_eq!(task.update("{}").await.unwrap_err().code(), Some(Code::FailedPrecondition));
        task.delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn limits_of_a_running_container_can_be_changed(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "spin.wasm").await?;
        limits_change_while_it_runs(&busy(&ctd, &image, &["/spin.wasm"]).await?).await?;
        ctd.stop().await?;
        let (ctd, image) = with_busybox(generation).await?;
        limits_change_while_it_runs(&busy(&ctd, &image, &["sleep", "1000"]).await?).await?;
        ctd.stop().await
    }

    async fn a_guest_is_refused_memory_before_the_kernel_kills_it(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "grow.wasm").await?;
        let events = ctd.events().await?;
        let container = tandem(&ctd, &image).memory_limit(64 << 20).create().await?;
        let output = container.run_to_end().await?;
        assert_eq!((output.code, output.stdout.as_str()), (9, "refused\n"), "{}", output.stderr);
        events.wait_for(container.id(), EventKind::Delete).await?;
        assert!(!events.kinds_of(container.id()).contains(&EventKind::Oom));
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_guest_gets_the_memory_that_its_container_is_given_later(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "grow.wasm").await?;
        let container = tandem(&ctd, &image).memory_limit(64 << 20).create().await?;
        let mut task = container.task().await?;
        task.update(r#"{"memory":{"limit":2147483648}}"#).await?;
        task.start().await?;
        assert_eq!(task.wait().await?.code, 0);
        task.delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_container_that_the_kernel_killed_for_memory_is_reported_before_its_end(generation: Generation) -> Result<()> {
        // A Linux container fills its heap, a guest a file in memory.
        let (ctd, image) = with_busybox(generation).await?;
        let events = ctd.events().await?;
        let container = tandem(&ctd, &image).args(["tail", "/dev/zero"]).memory_limit(16 << 20).create().await?;
        assert_eq!(container.run_to_end().await?.code, 137);
        events.wait_for(container.id(), EventKind::Delete).await?;
        let expected = [EventKind::Create, EventKind::Start, EventKind::Oom, EventKind::Exit, EventKind::Delete];
        assert_eq!(events.kinds_of(container.id()), expected);
        container.remove().await?;
        ctd.stop().await?;
        let (ctd, image) = with_guest(generation, "echo.wasm").await?;
        let events = ctd.events().await?;
        let container = tandem(&ctd, &image)
            .args(["/echo.wasm", "fill", "/big/file", "64"])
            .mount("/big", "tmpfs", "tmpfs", &["rw"])
            .memory_limit(16 << 20)
            .create()
            .await?;
        assert_eq!(container.run_to_end().await?.code, 137);
        events.wait_for(container.id(), EventKind::Delete).await?;
        assert_eq!(events.kinds_of(container.id()), expected);
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_child_that_the_kernel_killed_for_memory_is_reported_and_its_parent_goes_on(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let events = ctd.events().await?;
        let container = tandem(&ctd, &image)
            .args(["sh", "-c", "tail /dev/zero; echo $?; sleep 1000"])
            .memory_limit(16 << 20)
            .create()
            .await?;
        let mut task = container.task().await?;
        task.start().await?;
        events.wait_for(container.id(), EventKind::Oom).await?;
        task.stdout().wait_for("137").await?;
        assert_eq!(task.status().await?, Status::Running);
        task.kill_and_delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_container_sees_its_own_cgroups_and_cannot_raise_its_limits(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let first = tandem(&ctd, &image).args(["sleep", "1000"]).create().await?;
        let mut task = first.task().await?;
        task.start().await?;
        // In a PID namespace of its own, and in another's, where its pid says nothing to the host.
        let others = format!("/proc/{}/ns/pid", task.pid());
        for joined in [None, Some(others.as_str())] {
            let script = "cd /sys/fs/cgroup; file=$(ls pids/pids.max pids.max 2>/dev/null); \
                cat $file; echo 9 >$file || echo refused";
            let builder = tandem(&ctd, &image)
                .args(["sh", "-c", script])
                .pids_limit(77)
                .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
            let builder = match joined {
                Some(path) => builder.namespace("pid", path.as_ref()),
                None => builder,
            };
            let output = builder.run_to_end().await?;
            assert_eq!(output.stdout, "77\nrefused\n", "{}", output.stderr);
        }
        task.kill_and_delete().await?;
        first.remove().await?;
        ctd.stop().await
    }

    async fn mounts_of_the_host_may_come_into_a_container(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        for propagation in ["rslave", "rshared", "rprivate"] {
            let builder = tandem(&ctd, &image).args(["echo", "up"]);
            let builder = builder.edit(|spec| spec["linux"]["rootfsPropagation"] = propagation.into());
            let output = builder.run_to_end().await?;
            assert_eq!(output.stdout, "up\n", "{propagation}: {}", output.stderr);
        }
        ctd.stop().await
    }
}
