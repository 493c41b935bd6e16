//! A node that runs out of something: disk, inodes, descriptors, processes. What cannot be done is refused with a
//! reason; what runs runs on; and once there is room again everything works.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tandem_integration::deadline::{SOON, until};
use tandem_integration::image::Image;
use tandem_integration::task::Status;
use tandem_integration::{Container, ContainerBuilder, Containerd, Error, Result, Task, on_both_generations};

use super::shim::{Shim, held};
use super::support::{import_guest, tandem, with_busybox};

/// A disk of its own over a directory of the test's.
struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Mounts one with room for `pages` of 4 KiB and `inodes` files.
    fn over(dir: PathBuf, pages: u64, inodes: u64) -> Self {
        let options = format!("size={},nr_inodes={inodes},mode=0711", pages * 4096);
        mount(
            Some("small"),
            &dir,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        Self { dir }
    }

    /// Leaves room for `pages` of content; [`SmallDisk::relieve`] makes it all free again.
    fn leave_pages(&self, pages: u64) {
        let free = nix::sys::statvfs::statvfs(&self.dir).unwrap().blocks_free();
        let mut ballast = File::create(self.ballast()).unwrap();
        ballast
            .write_all(&vec![0; usize::try_from((free - pages) * 4096).unwrap()])
            .unwrap();
    }

    /// Leaves room for `inodes` further files.
    fn leave_inodes(&self, inodes: u64) {
        fs::create_dir(self.ballast()).unwrap();
        let free = nix::sys::statvfs::statvfs(&self.dir).unwrap().files_free();
        for number in inodes..free {
            File::create(self.ballast().join(number.to_string())).unwrap();
        }
    }

    fn relieve(&self) {
        let _ = fs::remove_file(self.ballast());
        let _ = fs::remove_dir_all(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
    }
}

/// A pod that runs, and images for more containers of it.
struct Pod {
    ctd: Containerd,
    linux: Image,
    wasm: Image,
    sandbox: Container,
    pause: Task,
}

impl Pod {
    async fn start(generation: tandem_integration::Generation) -> Result<Self> {
        let (ctd, linux) = with_busybox(generation).await?;
        Self::on(ctd, linux).await
    }

    async fn on(ctd: Containerd, linux: Image) -> Result<Self> {
        let wasm = import_guest(&ctd, "spin.wasm").await?;
        let sandbox = tandem(&ctd, &linux).args(["sleep", "1000"]).sandbox().create().await?;
        let mut pause = sandbox.task().await?;
        pause.start().await?;
        let pod = Self {
            ctd,
            linux,
            wasm,
            sandbox,
            pause,
        };
        // So that the module is compiled, and every path of the shim was taken once.
        for builder in pod.both() {
            assert!(comes_and_goes(builder).await?.is_none());
        }
        Ok(pod)
    }

    fn both(&self) -> [ContainerBuilder; 2] {
        let wasm = tandem(&self.ctd, &self.wasm);
        let linux = tandem(&self.ctd, &self.linux).args(["sleep", "1000"]);
        [wasm, linux].map(|builder| builder.in_sandbox(self.sandbox.id()))
    }

    /// A container of a shim of its own.
    fn alone(&self) -> ContainerBuilder {
        tandem(&self.ctd, &self.wasm)
    }

    async fn assert_runs_on(&self) -> Result<()> {
        assert_eq!(self.pause.status().await?, Status::Running);
        for builder in self.both() {
            if let Some(refusal) = comes_and_goes(builder).await? {
                return Err(refusal);
            }
        }
        Ok(())
    }

    async fn stop(self) -> Result<()> {
        self.pause.kill_and_delete().await?;
        self.sandbox.remove().await?;
        self.ctd.stop().await
    }
}

/// Creates, starts, kills and deletes a container; answers the refusal, if any call before the deletion was refused.
async fn comes_and_goes(builder: ContainerBuilder) -> Result<Option<Error>> {
    let container = builder.create().await?;
    let refusal = match container.task().await {
        Err(refusal) => Some(refusal),
        Ok(mut task) => {
            let started = task.start().await;
            task.kill_and_delete().await?;
            started.err()
        }
    };
    container.remove().await?;
    Ok(refusal)
}

/// A refusal says what the node is short of.
fn assert_names(refusal: &Error, words: &[&str]) {
    let message = refusal.message();
    assert!(words.iter().any(|word| message.contains(word)), "{message}");
    assert!(!message.contains("panic"), "{message}");
}

const NO_SPACE: [&str; 2] = ["No space left", "no space left"];
const NO_FILES: [&str; 2] = ["Too many open files", "RLIMIT_NOFILE"];
const NO_PROCESSES: [&str; 2] = ["EAGAIN", "out of processes"];

/// Limits the descriptors of a running process.
fn limit_files(pid: i32, limit: usize) {
    let status = Command::new("prlimit")
        .arg(format!("--pid={pid}"))
        .arg(format!("--nofile={limit}:20000"))
        .status();
    assert!(status.unwrap().success());
}

/// A pids cgroup around a shim, as a node's admin has one around each pod.
struct PidsLimit {
    dir: PathBuf,
    former: PathBuf,
    members: Vec<i32>,
}

impl PidsLimit {
    fn around(ctd: &Containerd, members: &[i32]) -> Self {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let controlled = |line: &&str| line.contains(" - cgroup cgroup ") && line.ends_with(",pids");
        let v1 = table.lines().find(controlled).and_then(|line| line.split(' ').nth(4));
        let root = Path::new(v1.unwrap_or("/sys/fs/cgroup"));
        let own = fs::read_to_string(format!("/proc/{}/cgroup", members[0])).unwrap();
        let path = own
            .lines()
            .find_map(|line| line.split_once(if v1.is_some() { ":pids:/" } else { "::/" }));
        let parent = root.join(ctd.home().cgroup().trim_start_matches('/'));
        let limit = Self {
            dir: parent.join("shim"),
            former: root.join(path.unwrap().1),
            members: members.to_vec(),
        };
        fs::create_dir_all(&limit.dir).unwrap();
        limit.move_to(&limit.dir);
        limit
    }

    /// Allows `more` processes and threads than there are.
    fn allow(&self, more: u64) {
        let current = fs::read_to_string(self.dir.join("pids.current")).unwrap();
        let limit = current.trim().parse::<u64>().unwrap() + more;
        fs::write(self.dir.join("pids.max"), limit.to_string()).unwrap();
    }

    fn move_to(&self, dir: &Path) {
        for member in &self.members {
            fs::write(dir.join("cgroup.procs"), member.to_string()).unwrap();
        }
    }
}

impl Drop for PidsLimit {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("pids.max"), "max");
        self.move_to(&self.former);
        let _ = fs::remove_dir(&self.dir);
    }
}

on_both_generations! {
    async fn with_a_full_state_directory_creates_are_refused_and_what_runs_runs_on(generation: Generation) -> Result<()> {
        let (ctd, linux) = with_busybox(generation).await?;
        let disk = SmallDisk::over(ctd.home().shim_run(), 256, 256);
        let pod = Pod::on(ctd, linux).await?;
        let mut refused = 0;
        for room in 0..6 {
            for limit in [SmallDisk::leave_pages, SmallDisk::leave_inodes] {
                limit(&disk, room);
                for builder in pod.both().into_iter().chain([pod.alone()]) {
                    if let Some(refusal) = comes_and_goes(builder).await? {
                        assert_names(&refusal, &NO_SPACE);
                        refused += 1;
                    }
                }
                disk.relieve();
                pod.assert_runs_on().await?;
            }
        }
        // A socket is all that is made there, of a new shim; a create itself needs no file.
        assert!(refused > 0, "{refused}");
        // The disk is a mount of the instance: it goes before leftovers are looked for, the pod before it.
        let Pod { ctd, sandbox, pause, .. } = pod;
        pause.kill_and_delete().await?;
        sandbox.remove().await?;
        ctd.assert_clean_but(&disk.dir).await?;
        drop(disk);
        ctd.stop().await
    }

    async fn with_a_full_code_cache_a_new_module_is_refused_and_the_rest_runs(generation: Generation) -> Result<()> {
        let cache = tempfile::tempdir_in("/var/tmp").unwrap();
        let disk = SmallDisk::over(cache.path().to_owned(), 256, 256);
        let ctd = Containerd::builder(generation).cache(cache.path()).start().await?;
        let linux = ctd.import(&tandem_integration::image::busybox("example.test/busybox:1")?).await?;
        let pod = Pod::on(ctd, linux).await?;
        let new = import_guest(&pod.ctd, "tool.wasm").await?;
        let mut refused = 0;
        for (room, limit) in (0..6).flat_map(|room| [(room, SmallDisk::leave_pages as fn(&SmallDisk, u64)), (room, SmallDisk::leave_inodes)]) {
            limit(&disk, room);
            let fresh = tandem(&pod.ctd, &new).args(["/tool.wasm", "sleep", "1000"]).in_sandbox(pod.sandbox.id());
            if let Some(refusal) = comes_and_goes(fresh).await? {
                assert_names(&refusal, &NO_SPACE);
                refused += 1;
            }
            // Cached modules and Linux containers need no room.
            pod.assert_runs_on().await?;
            disk.relieve();
        }
        // Once there was just enough room it is in the cache.
        assert!(refused >= 3, "{refused}");
        let output = tandem(&pod.ctd, &new).args(["/tool.wasm", "exit", "3"]).run_to_end().await?;
        assert_eq!(output.code, 3, "{}", output.stderr);
        drop(disk);
        pod.stop().await
    }

    async fn with_a_full_bundle_directory_creates_are_refused_and_what_runs_runs_on(generation: Generation) -> Result<()> {
        let (ctd, linux) = with_busybox(generation).await?;
        let bundles = ctd.home().state().join("io.containerd.runtime.v2.task");
        fs::create_dir_all(&bundles).unwrap();
        let disk = SmallDisk::over(bundles, 256, 256);
        let pod = Pod::on(ctd, linux).await?;
        let mut refused = 0;
        for room in 0..8 {
            for limit in [SmallDisk::leave_pages, SmallDisk::leave_inodes] {
                limit(&disk, room);
                for builder in pod.both().into_iter().chain([pod.alone()]) {
                    if let Some(refusal) = comes_and_goes(builder).await? {
                        assert!(refusal.message().to_lowercase().contains("no space left"), "{refusal}");
                        refused += 1;
                    }
                }
                disk.relieve();
                pod.assert_runs_on().await?;
            }
        }
        assert!(refused > 6, "{refused}");
        let Pod { ctd, sandbox, pause, .. } = pod;
        pause.kill_and_delete().await?;
        sandbox.remove().await?;
        ctd.assert_clean_but(&disk.dir).await?;
        drop(disk);
        ctd.stop().await
    }

    async fn a_shim_without_descriptors_says_so_and_is_usable_again_with_them(generation: Generation) -> Result<()> {
        let pod = Pod::start(generation).await?;
        let shim = Shim::of(&pod.pause);
        let mut refused = 0;
        for victim in [shim.service, shim.zygote] {
            // Of each of the two one child stays: the zygote, and the pause.
            until("the last worker's end", SOON, || (held(victim).children == 1).then_some(())).await?;
            let fds = held(victim).fds;
            for more in 0..16 {
                for builder in pod.both() {
                    let container = builder.create().await?;
                    limit_files(victim, fds + more);
                    let created = container.task().await;
                    limit_files(victim, 20000);
                    match created {
                        Ok(task) => drop(task.kill_and_delete().await?),
                        Err(refusal) => {
                            assert_names(&refusal, &NO_FILES);
                            refused += 1;
                        }
                    }
                    container.remove().await?;
                }
            }
            pod.assert_runs_on().await?;
            until("descriptors given back", SOON, || (held(victim).fds <= fds).then_some(())).await?;
        }
        assert!(refused > 10, "{refused}");
        pod.stop().await
    }

    async fn a_shim_that_may_not_fork_says_so_and_is_usable_again_when_it_may(generation: Generation) -> Result<()> {
        let pod = Pod::start(generation).await?;
        let shim = Shim::of(&pod.pause);
        let limit = PidsLimit::around(&pod.ctd, &shim.both());
        let mut refused = 0;
        for more in 0..5 {
            for builder in pod.both() {
                let container = builder.create().await?;
                until("the last worker's end", SOON, || (held(shim.zygote).children == 1).then_some(())).await?;
                limit.allow(more);
                match container.task().await {
                    // It is deleted under the limit as well.
                    Ok(task) => drop(task.kill_and_delete().await?),
                    Err(refusal) => {
                        assert_names(&refusal, &NO_PROCESSES);
                        refused += 1;
                    }
                }
                container.remove().await?;
                limit.allow(1000);
            }
            pod.assert_runs_on().await?;
            until("the last worker's end", SOON, || (held(shim.zygote).children == 1).then_some(())).await?;
        }
        assert!(refused >= 4, "{refused}");
        drop(limit);
        pod.stop().await
    }
}
