//! That the bundle's confinement holds for a Wasm container as for a Linux one: seen from the host in
//! `/proc` of the guest's process, and from inside.

use std::collections::HashMap;

use tandem_integration::{Container, ContainerBuilder, Result, Task, on_both_generations};

use super::support::{tandem, with_busybox, with_guest};

/// `/proc/<pid>/status` as a table.
fn status(pid: u32) -> HashMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pair = |line: &str| line.split_once(':').map(|(k, v)| (k.to_owned(), v.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

async fn running(builder: ContainerBuilder) -> Result<(Container, Task)> {
    let container = builder.create().await?;
    let mut task = container.task().await?;
    task.start().await?;
    task.stdout().wait_for("up").await?;
    Ok((container, task))
}

/// A file that the default spec masks and this kernel has.
fn masked_file() -> &'static str {
    let masked = [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/sched_debug",
        "/proc/latency_stats",
    ];
    masked
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .unwrap()
}

/// Gives `builder` everything that is checked below.
fn confined(builder: ContainerBuilder) -> ContainerBuilder {
    builder
        .user(1000, 2000)
        .groups(&[3000])
        .capabilities(&["CAP_NET_BIND_SERVICE"])
        .seccomp()
        .rlimit("RLIMIT_NOFILE", 512, 1024)
        .memory_limit(256 << 20)
        .pids_limit(64)
}

fn assert_confined(pid: u32) {
    let status = status(pid);
    assert_eq!(status["Uid"], "1000\t1000\t1000\t1000");
    assert_eq!(status["Gid"], "2000\t2000\t2000\t2000");
    assert_eq!(status["Groups"], "3000");
    assert_eq!(status["CapBnd"], "0000000000000400");
    // A user other than root has no effective capability without an ambient one.
    assert_eq!(status["CapEff"], "0000000000000000");
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Seccomp"], "2");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(
        files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(),
        ["512", "1024"]
    );
    for namespace in ["pid", "mnt", "ipc", "uts", "net"] {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{namespace} namespace is the host's");
    }
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(
        cgroups
            .lines()
            .any(|line| line.contains("tandem-test") || line.contains("/tdm")),
        "{cgroups}"
    );
}

on_both_generations! {
    async fn a_wasm_container_is_confined_as_its_spec_says(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "echo.wasm").await?;
        let args = ["/echo.wasm", "print", "up", "+", "sleep", "1000"];
        let (container, task) = running(confined(tandem(&ctd, &image).args(args))).await?;
        assert_confined(task.pid());
        // Descriptors of the shim and the zygote are none of the guest's.
        let fds = std::fs::read_dir(format!("/proc/{}/fd", task.pid())).unwrap();
        for fd in fds.flatten() {
            let target = std::fs::read_link(fd.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            assert!(!target.contains("signalfd"), "{target} is open in the guest");
        }
        task.kill_and_delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_linux_container_is_confined_as_its_spec_says(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let args = ["sh", "-c", "echo up; exec sleep 1000"];
        let (container, task) = running(confined(tandem(&ctd, &image).args(args))).await?;
        assert_confined(task.pid());
        task.kill_and_delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn masked_and_read_only_paths_hold_for_both_kinds(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "echo.wasm").await?;
        let masked = masked_file();
        let masked = tandem(&ctd, &image).args(["/echo.wasm", "cat", masked]).run_to_end().await?;
        assert_eq!(masked.stdout, "", "{}", masked.stderr);
        let sysctl = "/proc/sys/kernel/hostname";
        let refused = tandem(&ctd, &image).args(["/echo.wasm", "write", sysctl, "x"]).run_to_end().await?;
        assert_ne!(refused.code, 0);
        ctd.stop().await?;
        let (ctd, image) = with_busybox(generation).await?;
        let script = format!("wc -c <{}; echo x >{sysctl} || echo refused", masked_file());
        let output = tandem(&ctd, &image).args(["sh", "-c", &script]).run_to_end().await?;
        assert_eq!(output.stdout, "0\nrefused\n", "{}", output.stderr);
        ctd.stop().await
    }

    async fn a_guest_has_its_own_command_line_and_nothing_of_containerds_environment(generation: Generation) -> Result<()> {
        let (ctd, image) = with_guest(generation, "echo.wasm").await?;
        let args = ["/echo.wasm", "print", "up", "+", "sleep", "1000"];
        let (container, task) = running(tandem(&ctd, &image).args(args)).await?;
        let shown = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/{}/{name}", task.pid())).unwrap();
            // The room that is left is zeros.
            text.split_terminator('\0').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(shown("cmdline"), args);
        assert!(shown("environ").is_empty(), "{:?}", shown("environ"));
        task.kill_and_delete().await?;
        container.remove().await?;
        ctd.stop().await
    }
}
