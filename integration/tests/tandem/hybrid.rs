//! Pods of both kinds of container: what they share, and what the fate of one means to the others.

use std::path::Path;

use tandem_integration::task::Status;
use tandem_integration::{ContainerBuilder, NetNs, Result, deadline, on_both_generations};

use super::security::{Both, Running, Seen};
use super::support::{import_guest, tandem};

/// A pod as CRI makes it: a pause container with the namespaces, and a volume.
struct Pod {
    both: Both,
    pause: Running,
    netns: NetNs,
    volume: tempfile::TempDir,
    shared_processes: bool,
}

impl Pod {
    async fn start(generation: tandem_integration::Generation, shared_processes: bool) -> Result<Self> {
        let both = Both::start(generation).await?;
        let netns = NetNs::new(&both.ctd)?;
        let [_, linux] = both.waiting();
        let pause = linux
            .netns(netns.path())
            .sandbox()
            .edit(|spec| spec["hostname"] = "the-pod".into());
        Ok(Self {
            pause: Running::start(pause).await?,
            both,
            netns,
            volume: tempfile::tempdir().unwrap(),
            shared_processes,
        })
    }

    fn pause(&self) -> Seen {
        Seen {
            pid: self.pause.task.pid(),
        }
    }

    /// A container of the pod.
    fn member(&self, builder: ContainerBuilder) -> ContainerBuilder {
        let namespace = |name: &str| format!("/proc/{}/ns/{name}", self.pause().pid);
        let builder = builder
            .in_sandbox(self.pause.container.id())
            .netns(self.netns.path())
            .namespace("ipc", Path::new(&namespace("ipc")))
            .namespace("uts", Path::new(&namespace("uts")))
            .mount(
                "/shared",
                "bind",
                &self.volume.path().to_string_lossy(),
                &["rbind", "rprivate", "rw"],
            );
        if self.shared_processes {
            builder.namespace("pid", Path::new(&namespace("pid")))
        } else {
            builder
        }
    }

    fn wasm(&self, args: &[&str]) -> ContainerBuilder {
        let args = std::iter::once("/echo.wasm").chain(args.iter().copied());
        self.member(tandem(&self.both.ctd, &self.both.wasm).args(args))
    }

    fn linux(&self, script: &str) -> ContainerBuilder {
        self.member(tandem(&self.both.ctd, &self.both.linux).args(["sh", "-c", script]))
    }

    fn waiting(&self) -> [ContainerBuilder; 2] {
        self.both.waiting().map(|builder| self.member(builder))
    }

    async fn end(self) -> Result<()> {
        self.pause.end().await?;
        drop(self.netns);
        self.both.stop().await
    }
}

on_both_generations! {
    async fn members_share_network_ipc_host_name_and_volumes(generation: Generation) -> Result<()> {
        let pod = Pod::start(generation, false).await?;
        for builder in pod.waiting() {
            let member = Running::start(builder).await?;
            let seen = Seen { pid: member.task.pid() };
            for name in ["ns/net", "ns/ipc", "ns/uts"] {
                assert_eq!(seen.link(name), pod.pause().link(name), "{name}");
            }
            for name in ["ns/pid", "ns/mnt"] {
                assert_ne!(seen.link(name), pod.pause().link(name), "{name}");
            }
            member.end().await?;
        }
        let named = pod.linux("cat /proc/sys/kernel/hostname").run_to_end().await?;
        assert_eq!(named.stdout, "the-pod\n");
        assert_eq!(pod.wasm(&["write", "/shared/a", "of wasm"]).run_to_end().await?.code, 0);
        let read = pod.linux("cat /shared/a; echo of linux >/shared/b").run_to_end().await?;
        assert_eq!(read.stdout, "of wasm\n");
        assert_eq!(pod.wasm(&["cat", "/shared/b"]).run_to_end().await?.stdout, "of linux\n");
        pod.end().await
    }

    async fn members_see_and_signal_each_other_in_a_shared_pid_namespace(generation: Generation) -> Result<()> {
        let pod = Pod::start(generation, true).await?;
        let [wasm, linux] = pod.waiting();
        let wasm = Running::start(wasm).await?;
        let linux = Running::start(linux).await?;
        for member in [&wasm, &linux] {
            let seen = Seen { pid: member.task.pid() };
            assert_eq!(seen.link("ns/pid"), pod.pause().link("ns/pid"));
        }
        let seen = pod.linux("cat /proc/[0-9]*/comm").run_to_end().await?;
        assert!(seen.stdout.contains("echo.wasm") && seen.stdout.contains("sleep"), "{}", seen.stdout);
        let kill = "for p in /proc/[0-9]*; do grep -q echo.wasm $p/comm && kill -TERM ${p#/proc/}; done; true";
        assert_eq!(pod.linux(kill).run_to_end().await?.code, 0);
        assert_eq!(wasm.task.wait().await?.code, 143);
        assert_eq!(linux.task.status().await?, Status::Running);
        wasm.end().await?;
        // Without namespace of its own to end with it, what a container has started ends with it all the same.
        let forking = Running::start(pod.linux("sleep 999 & echo up; sleep 998")).await?;
        forking.end().await?;
        let seen = pod.linux("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").run_to_end().await?;
        assert!(seen.stdout.contains("sleep") && !seen.stdout.contains("999"), "{}", seen.stdout);
        linux.end().await?;
        pod.end().await
    }

    async fn init_containers_of_both_kinds_run_one_after_the_other(generation: Generation) -> Result<()> {
        let pod = Pod::start(generation, false).await?;
        assert_eq!(pod.wasm(&["write", "/shared/first", "1"]).run_to_end().await?.code, 0);
        assert_eq!(pod.linux("cat /shared/first >/shared/second; echo 2 >>/shared/second").run_to_end().await?.code, 0);
        assert_eq!(pod.wasm(&["exit", "3"]).run_to_end().await?.code, 3);
        let main = Running::start(pod.wasm(&["cat", "/shared/second", "+", "print", "up", "+", "sleep", "1000"])).await?;
        assert_eq!(main.task.stdout().text().trim(), "1\n2\nup");
        main.end().await?;
        pod.end().await
    }

    async fn a_container_added_later_looks_into_a_running_one(generation: Generation) -> Result<()> {
        let pod = Pod::start(generation, false).await?;
        for (target, name) in pod.waiting().into_iter().zip(["echo.wasm", "sleep"]) {
            let target = Running::start(target).await?;
            // The shell says that it is up before it becomes the program.
            let comm = format!("/proc/{}/comm", target.task.pid());
            let is_it = || std::fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == name);
            deadline::until("the program", deadline::SOON, || is_it().then_some(())).await?;
            let into = format!("/proc/{}/ns/pid", target.task.pid());
            let debug = pod.linux("cat /proc/1/comm").namespace("pid", Path::new(&into)).run_to_end().await?;
            assert_eq!(debug.stdout, format!("{name}\n"), "{}", debug.stderr);
            assert_eq!(target.task.status().await?, Status::Running);
            target.end().await?;
        }
        pod.end().await
    }

    async fn a_crash_and_a_lack_of_memory_are_one_containers_own(generation: Generation) -> Result<()> {
        let pod = Pod::start(generation, false).await?;
        let [wasm, linux] = pod.waiting();
        let wasm = Running::start(wasm).await?;
        let linux = Running::start(linux).await?;
        let grow = import_guest(&pod.both.ctd, "grow.wasm").await?;
        let greedy = pod.member(tandem(&pod.both.ctd, &grow)).memory_limit(64 << 20).run_to_end().await?;
        assert_ne!(greedy.code, 0);
        let greedy = pod.linux("tail /dev/zero").memory_limit(32 << 20).run_to_end().await?;
        assert_eq!(greedy.code, 137);
        assert_eq!(pod.wasm(&["trap"]).run_to_end().await?.code, 134);
        assert_eq!(pod.linux("sh -c 'kill -SEGV $$'; exit $?").run_to_end().await?.code, 139);
        for member in [&wasm, &linux, &pod.pause] {
            assert_eq!(member.task.status().await?, Status::Running);
        }
        wasm.end().await?;
        linux.end().await?;
        pod.end().await
    }

    async fn a_member_that_ends_can_be_started_again_beside_the_others(generation: Generation) -> Result<()> {
        let pod = Pod::start(generation, false).await?;
        for _ in 0..3 {
            let sidecar = Running::start(pod.linux("echo up; exec sleep 1000")).await?;
            assert_eq!(pod.wasm(&["exit", "1"]).run_to_end().await?.code, 1);
            sidecar.end().await?;
        }
        pod.end().await
    }
}
