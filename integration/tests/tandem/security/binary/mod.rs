//! The shim's binary: whoever runs it, sees it run or has once seen it run must not get a descriptor to write it with.
//!
//! The kernel refuses to write to a program that runs ("text file busy"), which is no protection: one has only to wait
//! for its end, or to bring it about. So what these attackers find is tried once more when nobody runs it any more.

mod attackers;

use std::fs::{File, OpenOptions, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tandem_integration::image::{Compression, Image, ImageBuilder, busybox_files};
use tandem_integration::{
    Container, ContainerBuilder, Containerd, Generation, Result, Task, deadline, generation, guests,
    on_both_generations, spec,
};

use super::super::shim::{Shim, kill9};
use super::super::support::tandem;
use attackers::{Attacker, mount_attempts};

/// A program that is whatever executes it: the kernel looks the interpreter up in the process that is about to run it.
/// The option takes the script's own name, which the kernel puts behind it.
const SCRIPT: &[u8] = b"#!/proc/self/exe -bundle\n";
/// Makes the shim wait for its standard input.
const AS_START: [&str; 6] = ["/attack", "-namespace", "a", "-id", "b", "start"];
/// What lets a container look into any process it sees, and mount.
const MORE_CAPABILITIES: [&str; 4] = [
    "CAP_SYS_PTRACE",
    "CAP_SYS_ADMIN",
    "CAP_DAC_READ_SEARCH",
    "CAP_CHECKPOINT_RESTORE",
];

/// A containerd whose shim is a file of this test's own, so that it matters to nobody if it is overwritten.
struct Target {
    ctd: Containerd,
    image: Image,
    binary: PathBuf,
    content: Vec<u8>,
    _dir: tempfile::TempDir,
}

impl Target {
    async fn start(generation: Generation) -> Result<Self> {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("containerd-shim-tandem-v1");
        std::fs::copy(generation::tandem_shim(), &binary).unwrap();
        let content = std::fs::read(&binary).unwrap();
        let ctd = Containerd::builder(generation)
            .shim("containerd-shim-tandem-v1", &binary)
            .start()
            .await?;
        let files = busybox_files()?.dir("mnt", 0o755).file("attack", 0o755, SCRIPT).file(
            "echo.wasm",
            0o755,
            &guests::bytes("echo.wasm")?,
        );
        let layout = ImageBuilder::new("example.test/attack:1")
            .files(&files, Compression::default())?
            .entrypoint(["/bin/sh"])
            .build();
        let image = ctd.import(&layout).await?;
        Ok(Self {
            ctd,
            image,
            binary,
            content,
            _dir: dir,
        })
    }

    fn container(&self, args: &[&str]) -> ContainerBuilder {
        tandem(&self.ctd, &self.image).args(args.iter().copied())
    }

    /// All processes that run the file, through whatever mount.
    fn runners(&self) -> Vec<i32> {
        let file = std::fs::metadata(&self.binary).unwrap();
        let runs = |pid: &i32| {
            std::fs::metadata(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| (exe.dev(), exe.ino()) == (file.dev(), file.ino()))
        };
        let names = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(runs).collect()
    }

    /// Ends containerd, so that it does not run the binary once more, and all that run it.
    fn end_all_runners(&mut self) {
        self.ctd.kill9();
        let since = Instant::now();
        loop {
            let runners = self.runners();
            if runners.is_empty() {
                return;
            }
            assert!(since.elapsed() < deadline::SOON, "{runners:?} still run the binary");
            for pid in runners {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
            std::thread::sleep(deadline::POLL);
        }
    }

    /// The end: the file is as it was, and whoever writes to it by its own name still can.
    async fn stop(mut self, containers: Vec<Container>) -> Result<()> {
        assert!(
            std::fs::read(&self.binary).unwrap() == self.content,
            "the shim's binary was overwritten"
        );
        File::options().write(true).open(&self.binary).unwrap();
        self.ctd.boot().await?;
        for container in containers {
            super::super::restarts::purge(&container).await;
            container.remove().await?;
        }
        self.ctd.stop().await
    }
}

/// Waits until the process has become the shim's binary and waits for its input.
async fn became_the_shim(pid: u32) -> Result<()> {
    deadline::until("a script that executes /proc/self/exe", deadline::SOON, || {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        line.starts_with(b"/proc/self/exe\0").then_some(())
    })
    .await
}

/// Everything that can be opened of the binary by way of a process that runs it.
fn opened(pid: i32, binary: &Path) -> Vec<File> {
    let file = std::fs::metadata(binary).unwrap();
    let proc = Path::new("/proc").join(pid.to_string());
    let mapped = std::fs::read_dir(proc.join("map_files"))
        .into_iter()
        .flatten()
        .flatten();
    let paths = std::iter::once(proc.join("exe")).chain(mapped.map(|entry| entry.path()));
    let is_binary = |path: &PathBuf| {
        std::fs::metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
    };
    let paths: Vec<_> = paths.filter(is_binary).collect();
    assert!(paths.len() > 1, "process {pid}: {paths:?}");
    let reading = paths.iter().map(|path| File::open(path).unwrap());
    let path_only = paths.iter().map(|path| {
        use std::os::unix::fs::OpenOptionsExt;
        File::options()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(path)
            .unwrap()
    });
    reading.chain(path_only).collect()
}

/// Tries every way to change the file behind `path`; each must fail, as on a read-only file system if `idle`.
fn cannot_change(path: &Path, idle: bool) {
    let open = |options: &mut OpenOptions| options.open(path).map(drop);
    let attempts = [
        open(File::options().write(true)),
        open(File::options().read(true).write(true)),
        open(File::options().append(true)),
        open(File::options().write(true).truncate(true)),
        std::fs::set_permissions(path, Permissions::from_mode(0o777)),
        std::os::unix::fs::chown(path, Some(1), Some(1)),
        nix::unistd::truncate(path, 0).map_err(Into::into),
    ];
    for (number, attempt) in attempts.into_iter().enumerate() {
        let errno = attempt.expect_err("the binary can be changed").raw_os_error();
        let expected = errno == Some(libc::EROFS) || !idle && errno == Some(libc::ETXTBSY);
        assert!(expected, "attempt {number} on {}: {errno:?}", path.display());
    }
}

on_both_generations! {
    /// As it was reported: the script's process is a shim that anybody in the container's place may look into.
    async fn a_script_that_executes_the_running_program_opens_no_way_to_it(generation: Generation) -> Result<()> {
        let mut target = Target::start(generation).await?;
        let victim = target.container(&AS_START).stdin("").create().await?;
        let mut first = victim.task().await?;
        first.start().await?;
        let host = target.container(&["sleep", "1000"]).create().await?;
        let mut task = host.task().await?;
        task.start().await?;
        let exec = task.exec(AS_START).stdin("").start().await?;
        let executed = exec.state().await?.pid;
        for pid in [first.pid(), executed] {
            became_the_shim(pid).await?;
        }
        let mut attacker = Attacker::hold(&target.ctd, &target.image, &spec::CAPABILITIES, &[first.pid(), executed]).await?;
        assert_eq!(attacker.holds(), 2, "{}", attacker.output());
        target.end_all_runners();
        attacker.write().await?;
        assert!(!attacker.output().contains("wrote"), "{}", attacker.output());
        let attacker = attacker.into_container();
        target.stop(vec![victim, host, attacker]).await
    }

    async fn a_container_that_may_look_into_every_process_and_mount_cannot_write_it(generation: Generation) -> Result<()> {
        let mut target = Target::start(generation).await?;
        let guest = target.container(&["/echo.wasm", "sleep", "1000"]).create().await?;
        let mut task = guest.task().await?;
        task.start().await?;
        let shim = Shim::of(&task);
        let pids = [shim.service, shim.zygote].map(i32::unsigned_abs);
        let capabilities: Vec<_> = spec::CAPABILITIES.into_iter().chain(MORE_CAPABILITIES).collect();
        let mut attacker = Attacker::hold(&target.ctd, &target.image, &capabilities, &[pids[0], pids[1], task.pid()]).await?;
        assert_eq!(attacker.holds(), 3, "{}", attacker.output());
        attacker.mount(pids[1]).await?;
        assert!(!attacker.output().contains("mounted"), "{}", attacker.output());
        target.end_all_runners();
        attacker.write().await?;
        assert!(!attacker.output().contains("wrote"), "{}", attacker.output());
        let attacker = attacker.into_container();
        target.stop(vec![guest, attacker]).await
    }

    /// With all rights on the node, but by way of the processes alone. Each kind of process that the shim ever is.
    async fn no_process_of_the_shim_leads_to_its_binary_for_writing(generation: Generation) -> Result<()> {
        let mut target = Target::start(generation).await?;
        let mut containers = Vec::new();
        let mut tasks: Vec<Task> = Vec::new();
        for (args, starts) in [
            (&["/echo.wasm", "sleep", "1000"] as &[&str], true),
            (&["/echo.wasm", "sleep", "1000"], false),
            (&["sleep", "1000"], false),
            (&AS_START, true),
        ] {
            let container = target.container(args).stdin("").create().await?;
            let mut task = container.task().await?;
            if starts {
                task.start().await?;
            }
            containers.push(container);
            tasks.push(task);
        }
        became_the_shim(tasks[3].pid()).await?;
        let runners = target.runners();
        for task in &tasks {
            let shim = Shim::of(task);
            for pid in [task.pid().cast_signed(), shim.service, shim.zygote] {
                assert!(runners.contains(&pid), "{pid} is not among {runners:?}");
            }
        }
        let mut held = Vec::new();
        for pid in runners {
            let exe = PathBuf::from(format!("/proc/{pid}/exe"));
            cannot_change(&exe, false);
            for (what, attempt) in mount_attempts(&exe) {
                assert!(attempt.is_err(), "process {pid}: {what} succeeds");
            }
            held.extend(opened(pid, &target.binary));
        }
        target.end_all_runners();
        for file in &held {
            let again = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            cannot_change(&again, true);
            for (what, attempt) in mount_attempts(&again) {
                assert!(attempt.is_err(), "{what} succeeds after the end of the process");
            }
        }
        drop(held);
        target.stop(containers).await
    }

    async fn an_upgrade_while_it_runs_changes_nothing_of_that(generation: Generation) -> Result<()> {
        let mut target = Target::start(generation).await?;
        let guest = target.container(&["/echo.wasm", "sleep", "1000"]).create().await?;
        let mut task = guest.task().await?;
        task.start().await?;
        let shim = Shim::of(&task);
        let held = opened(shim.zygote, &target.binary);
        // As an installer does it: the old file loses its name.
        let new = target.binary.with_extension("new");
        std::fs::copy(&target.binary, &new).unwrap();
        std::fs::rename(&new, &target.binary).unwrap();
        // The old zygote still forks and executes what it ran from.
        let exec = task.exec(["/echo.wasm", "print", "up"]).run().await?;
        assert_eq!(exec.code, 0, "{}", exec.stderr);
        target.ctd.kill9();
        for pid in shim.both() {
            kill9(pid);
        }
        for file in &held {
            cannot_change(&PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())), false);
        }
        drop(held);
        target.stop(vec![guest]).await
    }
}
