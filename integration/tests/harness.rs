//! The harness itself, proven with runc: what it reports must be so before it judges the shim.
//! These tests run as root and need both generations of containerd (see the crate's documentation).

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::{Child, Command},
    time::Duration,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tandem_integration::{
    Containerd, Cri, EventKind, Generation, Leftover, Leftovers, NetNs, RUNC, Result,
    image::{Image, busybox, index, linux_static, oci_artifact, runwasi},
    on_both_generations,
    task::Status,
};

async fn with_busybox(generation: Generation) -> Result<(Containerd, Image)> {
    let ctd = Containerd::start(generation).await?;
    let image = ctd.import(&busybox("example.test/busybox:1")?).await?;
    Ok((ctd, image))
}

on_both_generations! {
    async fn a_containers_output_and_exit_code_come_back(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let script = "echo hello; echo trouble >&2; exit 3";
        let output = ctd.container(&image).args(["sh", "-c", script]).run_to_end().await?;
        assert_eq!(output.stdout, "hello\n");
        assert_eq!(output.stderr, "trouble\n");
        assert_eq!(output.code, 3);
        ctd.stop().await
    }

    async fn a_kill_ends_a_container_with_128_and_the_signal(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let container = ctd.container(&image).args(["sleep", "1000"]).create().await?;
        let mut task = container.task().await?;
        assert_eq!(task.status().await?, Status::Created);
        task.start().await?;
        assert_eq!(task.status().await?, Status::Running);
        assert_eq!(task.pids().await?, [task.pid()]);
        let refused = task.delete_only().await.unwrap_err();
        assert!(refused.message().contains("running process"), "{refused}");
        task.kill(9).await?;
        assert_eq!(task.wait().await?.code, 128 + 9);
        assert_eq!(task.delete().await?.code, 128 + 9);
        container.remove().await?;
        ctd.stop().await
    }

    async fn events_come_in_the_order_of_a_containers_life(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let events = ctd.events().await?;
        // In a pod, because runc's shim may end before its last event is out; here the sandbox keeps it.
        let pod = ctd.container(&image).args(["sleep", "1000"]).sandbox().create().await?;
        let mut pause = pod.task().await?;
        pause.start().await?;
        let container = ctd.container(&image).args(["sh", "-c", "exit 7"]).in_sandbox(pod.id());
        let container = container.create().await?;
        container.run_to_end().await?;
        events.wait_for(container.id(), EventKind::Delete).await?;
        assert_eq!(
            events.kinds_of(container.id()),
            [EventKind::Create, EventKind::Start, EventKind::Exit, EventKind::Delete],
        );
        assert_eq!(events.of(container.id())[2].code, 7);
        container.remove().await?;
        pause.kill_and_delete().await?;
        pod.remove().await?;
        ctd.stop().await
    }

    async fn a_spec_is_what_the_container_gets(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let script = "id -u; id -g; pwd; echo $COLOR; touch /x 2>/dev/null || echo read-only; \
                      cat /etc/mine; grep -c Seccomp:.2 /proc/self/status; ulimit -n";
        let file = ctd.home().dir.join("mine");
        std::fs::write(&file, "bound\n").unwrap();
        let output = ctd
            .container(&image)
            .runtime(RUNC)
            .args(["sh", "-c", script])
            .user(1000, 100)
            .cwd("/tmp")
            .env("COLOR", "blue")
            .readonly_rootfs()
            .bind(&file, "/etc/mine", false)
            .seccomp()
            .memory_limit(64 << 20)
            .pids_limit(50)
            .annotation("tandem.dev/x", "y")
            .run_to_end()
            .await;
        // runc cannot make the mount point in a rootfs that is read-only only later: that it can is part of this.
        let output = output?;
        assert_eq!(output.stdout, "1000\n100\n/tmp\nblue\nread-only\nbound\n1\n1024\n", "{}", output.stderr);
        ctd.stop().await
    }

    async fn standard_input_reaches_the_container_and_ends(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let container = ctd.container(&image).args(["cat"]).stdin("first\n").create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        task.stdout().wait_for("first\n").await?;
        task.stdin().unwrap().write(b"second\n").await?;
        task.close_stdin().await?;
        assert_eq!(task.wait().await?.code, 0);
        task.delete().await?;
        assert_eq!(task.stdout().text(), "first\nsecond\n");
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_running_container_has_statistics(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let container = ctd.container(&image).args(["sh", "-c", "echo up; exec sleep 1000"]).memory_limit(64 << 20);
        let container = container.create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        // Before that the runtime's own threads are in the cgroup.
        task.stdout().wait_for("up").await?;
        let stats = task.stats().await?;
        assert_eq!((stats.pids, stats.memory_limit), (1, 64 << 20));
        assert!(stats.cpu_ns > 100_000 && stats.memory > 0, "{stats:?}");
        task.kill_and_delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_runtimes_refusal_keeps_its_code_and_message_and_leaves_nothing(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let container = ctd.container(&image).args(["/no/such/program"]).create().await?;
        let refused = container.run_to_end().await.unwrap_err();
        assert!(refused.code().is_some(), "{refused}");
        assert!(refused.message().contains("no such file"), "{refused}");
        container.remove().await?;
        let container = ctd.container(&image).runtime("io.containerd.nobody.v1").create().await?;
        let refused = container.run_to_end().await.unwrap_err();
        assert!(refused.message().contains("containerd-shim-nobody-v1"), "{refused}");
        container.remove().await?;
        ctd.stop().await
    }

    async fn a_server_in_a_network_namespace_answers(generation: Generation) -> Result<()> {
        let ctd = Containerd::start(generation).await?;
        let netns = NetNs::new(&ctd)?;
        let listener = netns.run(|| TcpListener::bind("127.0.0.1:8080").unwrap())?;
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /path HTTP/1.1"));
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").unwrap();
        });
        let response = netns.get_soon(([127, 0, 0, 1], 8080).into(), "/path").await?;
        assert_eq!((response.status.as_u16(), response.text().as_str()), (200, "ok"));
        server.join().unwrap();
        ctd.stop().await
    }

    async fn a_container_joins_a_network_namespace(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let netns = NetNs::new(&ctd)?;
        let server = ["httpd", "-f", "-p", "127.0.0.1:8080", "-h", "/etc"];
        let container = ctd.container(&image).args(server).netns(netns.path());
        let container = container.create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        let response = netns.get_soon(([127, 0, 0, 1], 8080).into(), "/group").await?;
        assert_eq!(response.text(), "root:x:0:\n");
        task.kill_and_delete().await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn containers_outlive_a_crash_and_a_restart_of_containerd(generation: Generation) -> Result<()> {
        let (mut ctd, image) = with_busybox(generation).await?;
        let events = ctd.events().await?;
        let container = ctd.container(&image).args(["sleep", "1000"]).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        ctd.kill9_and_restart().await?;
        assert_eq!(task.status().await?, Status::Running);
        ctd.restart().await?;
        assert_eq!(task.status().await?, Status::Running);
        events.resubscribed(ctd.session()).await?;
        task.kill_and_delete().await?;
        events.wait_for(container.id(), EventKind::Exit).await?;
        container.remove().await?;
        ctd.stop().await
    }

    async fn images_of_every_kind_are_imported(generation: Generation) -> Result<()> {
        const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
        let ctd = Containerd::start(generation).await?;
        let linux = linux_static("example.test/linux:1", "/bin/busybox".as_ref())?;
        let wasm = oci_artifact("example.test/artifact:1", COMPONENT);
        let both = index("example.test/both:1", [wasm.clone(), linux.clone()])?;
        let chain = ctd.import(&linux).await?.chain_id;
        assert!(chain.starts_with("sha256:"), "{chain:?}");
        assert_eq!(ctd.import(&wasm).await?.chain_id, "");
        assert_eq!(ctd.import(&runwasi("example.test/runwasi:1", COMPONENT)).await?.chain_id, "");
        // An index stands on the image for this machine, wherever in it that is.
        assert_eq!(ctd.import(&both).await?.chain_id, chain);
        // A name can move to another image.
        ctd.import(&linux.named("example.test/artifact:1")).await?;
        // What a garbage collection must keep, it keeps.
        ctd.ctr(["images", "import", "--all-platforms", "--no-unpack", &archive(&ctd, &wasm)]).await?;
        let checked = ctd.ctr(["images", "check"]).await?;
        assert!(!checked.contains("incomplete"), "{checked}");
        ctd.stop().await
    }

    async fn the_cri_service_can_be_turned_on(generation: Generation) -> Result<()> {
        let cri = Cri {
            sandbox_image: "example.test/pause:1".into(),
            cni_conf_dir: "/etc/cni/net.d".into(),
            cni_bin_dir: "/usr/lib/cni".into(),
        };
        let ctd = Containerd::builder(generation).namespace("k8s.io").cri(cri).start().await?;
        let plugins = ctd.ctr(["plugins", "ls"]).await?;
        let mut cri = plugins.lines().filter(|line| line.contains("cri"));
        assert!(cri.clone().count() > 0 && cri.all(|line| line.trim().ends_with("ok")), "{plugins}");
        ctd.stop().await
    }

    async fn two_containers_of_a_pod_share_one_shim(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let pod = ctd.container(&image).args(["sleep", "1000"]).sandbox().create().await?;
        let mut pause = pod.task().await?;
        pause.start().await?;
        let shims = || shims(&ctd);
        assert_eq!(shims().await?, 1);
        let member = ctd.container(&image).args(["echo", "hi"]).in_sandbox(pod.id());
        let output = member.run_to_end().await?;
        assert_eq!(output.stdout, "hi\n");
        assert_eq!(shims().await?, 1);
        pause.kill_and_delete().await?;
        pod.remove().await?;
        ctd.stop().await
    }

    async fn leftovers_are_reported_by_kind_and_name(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let before = Leftovers::before(&ctd).await?;
        assert_eq!(before.found().await?, []);

        let point = ctd.home().dir.join("point");
        std::fs::create_dir(&point).unwrap();
        mount(Some("none"), &point, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let process = Leak::of(&ctd);
        let socket = ctd.home().shim_run().join("socket");
        std::fs::write(&socket, "").unwrap();
        let container = ctd.container(&image).args(["sleep", "1000"]).create().await?;
        let mut task = container.task().await?;
        task.start().await?;

        let found = before.found().await?;
        let listed = |fits: &dyn Fn(&Leftover) -> bool| assert!(found.iter().any(fits), "{found:?}");
        listed(&|l| matches!(l, Leftover::Process { command, .. } if command == "sleep 999"));
        listed(&|l| matches!(l, Leftover::Process { pid, .. } if *pid == task.pid()));
        listed(&|l| matches!(l, Leftover::Process { command, .. } if command.contains("shim-runc-v2")));
        listed(&|l| matches!(l, Leftover::Mount { point: at, kind } if *at == point && kind == "tmpfs"));
        listed(&|l| matches!(l, Leftover::File(path) if *path == socket));
        listed(&|l| matches!(l, Leftover::Cgroup(path) if path.ends_with(container.id())));
        listed(&|l| matches!(l, Leftover::Bundle(path) if path.ends_with(container.id())));
        listed(&|l| matches!(l, Leftover::Task(id) if id == container.id()));

        // What was there before does not count afterwards.
        Leftovers::before(&ctd).await?.assert_clean().await?;

        task.kill_and_delete().await?;
        container.remove().await?;
        umount2(&point, MntFlags::MNT_DETACH).unwrap();
        drop(process);
        std::fs::remove_file(&socket).unwrap();
        before.assert_clean().await?;
        ctd.stop().await
    }

    async fn an_instance_that_is_dropped_takes_all_it_left_with_it(generation: Generation) -> Result<()> {
        let (ctd, image) = with_busybox(generation).await?;
        let container = ctd.container(&image).args(["sleep", "1000"]).create().await?;
        let mut task = container.task().await?;
        task.start().await?;
        let mut process = Leak::of(&ctd);
        let pid = i32::try_from(task.pid()).unwrap();
        let (dir, cgroup) = (ctd.home().dir.clone(), ctd.home().cgroup());
        ctd.discard();
        assert!(!process.0.wait().unwrap().success());
        assert!(!dir.exists());
        let gone = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
        assert!(gone.is_err() || is_zombie(pid), "process {pid} lives");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(dir.to_str().unwrap()));
        assert!(!std::path::Path::new("/sys/fs/cgroup/pids").join(&cgroup[1..]).exists());
        Ok(())
    }
}

/// A process that a test leaks, but only as long as it runs.
#[cfg(test)]
struct Leak(Child);

#[cfg(test)]
impl Leak {
    fn of(ctd: &Containerd) -> Self {
        let mut command = Command::new("sleep");
        command.arg("999").env("LEAK", &ctd.home().dir);
        let leak = Self(command.spawn().unwrap());
        // The new environment is there once the program is.
        let comm = format!("/proc/{}/comm", leak.0.id());
        while std::fs::read_to_string(&comm).unwrap() != "sleep\n" {
            std::thread::sleep(Duration::from_millis(1));
        }
        leak
    }
}

#[cfg(test)]
impl Drop for Leak {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[cfg(test)]
fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| stat.contains(") Z "))
}

#[cfg(test)]
fn archive(ctd: &Containerd, layout: &tandem_integration::image::Layout) -> String {
    let file = ctd.home().dir.join("image.tar");
    std::fs::write(&file, layout.archive().unwrap()).unwrap();
    file.to_str().unwrap().to_owned()
}

#[cfg(test)]
async fn shims(ctd: &Containerd) -> Result<usize> {
    let found = Leftovers::of(ctd).found().await?;
    let shim = |l: &&Leftover| matches!(l, Leftover::Process { command, .. } if command.contains("containerd-shim-"));
    Ok(found.iter().filter(shim).count())
}
