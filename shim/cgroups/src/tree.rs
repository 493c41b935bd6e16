//! The processes of a container in one hierarchy, and the end of both: its cgroup and those that were made below it.
//!
//! A process is signalled by a descriptor that was opened before the process was seen in the cgroup: a pid that is read
//! from `cgroup.procs` may be another process's by the time it is used.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::v1::freezer;

/// How often the list of processes is read again for those that were forked while it was worked off.
const ROUNDS: u32 = 16;
/// How many processes are held by a descriptor at a time.
const BATCH: usize = 64;
/// A killed process leaves its cgroup a moment after the signal; until then `rmdir` fails with EBUSY.
const REMOVAL_PAUSES: [Duration; 9] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(700),
    Duration::from_secs(1),
];

/// The processes in the cgroup and below it.
pub fn processes(dir: &Path) -> io::Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    collect(dir, &mut pids)?;
    Ok(pids)
}

fn collect(dir: &Path, pids: &mut BTreeSet<i32>) -> io::Result<()> {
    let text = fs::read_to_string(dir.join("cgroup.procs"))?;
    let listed = text.lines().filter_map(|line| line.trim().parse::<i32>().ok());
    // 0 is a process that this PID namespace does not see. As an argument of kill(2) it would be our own group.
    pids.extend(listed.filter(|pid| *pid > 0));
    for child in children(dir)? {
        // A child that went away meanwhile has no processes.
        let _ = collect(&child, pids);
    }
    Ok(())
}

/// The cgroups directly below.
fn children(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Sends a signal, by its number, to every process in the cgroup and below it, and to those that they fork meanwhile.
pub fn signal(dir: &Path, number: i32) {
    let mut signalled = BTreeSet::new();
    for _ in 0..ROUNDS {
        let all = processes(dir).unwrap_or_default();
        let new: Vec<i32> = all.difference(&signalled).copied().collect();
        if new.is_empty() {
            return;
        }
        for batch in new.chunks(BATCH) {
            let opened: Vec<_> = batch.iter().map(|pid| (*pid, open_process(*pid))).collect();
            let members = processes(dir).unwrap_or_default();
            for (pid, process) in opened.into_iter().filter(|(pid, _)| members.contains(pid)) {
                send(pid, process, number);
            }
        }
        signalled.extend(new);
    }
}

fn open_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn send(pid: i32, process: io::Result<OwnedFd>, number: i32) {
    match process {
        Ok(process) => {
            let no_details = std::ptr::null::<libc::siginfo_t>();
            // SAFETY: pidfd_send_signal(2) takes an open descriptor and plain numbers; it fills in the details itself.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, no_details, 0) };
        }
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
        // No descriptor to be had, or a kernel before 5.3: the process was in the cgroup a moment ago.
        // SAFETY: kill(2) takes plain numbers.
        Err(_) => drop(unsafe { libc::kill(pid, number) }),
    }
}

/// Ends every process in the cgroup and below it; none of them runs another instruction of its own, frozen or not.
///
/// The kernel does it at once where it has `cgroup.kill` (cgroup v2, Linux 5.14). On cgroup v1 the processes are frozen
/// first, if there is a `freezer`, so that none forks away from the signal, and not even SIGKILL ends them before they
/// are thawed.
pub fn kill(dir: &Path, freezer: Option<&Path>) {
    if write(&dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    if let Some(freezer) = freezer {
        let _ = freezer::begin(freezer);
    }
    signal(dir, libc::SIGKILL);
    if let Some(freezer) = freezer {
        thaw(freezer);
    }
}

/// Lets the processes in a cgroup of the v1 freezer and below it go on, whoever has frozen them.
pub fn thaw(freezer: &Path) {
    let _ = freezer::thaw(freezer);
    for child in children(freezer).unwrap_or_default() {
        thaw(&child);
    }
}

/// Removes the cgroup and those below it, and ends what is left inside.
pub fn remove(dir: &Path) -> io::Result<()> {
    let mut pauses = REMOVAL_PAUSES.into_iter();
    loop {
        // First without a look: nearly always the cgroup is empty and has no children.
        let error = match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => error,
        };
        let has_freezer = dir.join("freezer.state").exists();
        kill(dir, has_freezer.then_some(dir));
        remove_empty(dir);
        match pauses.next() {
            Some(pause) => std::thread::sleep(pause),
            None => return Err(error),
        }
    }
}

/// Removes what is empty by now, from the leaves on.
fn remove_empty(dir: &Path) {
    for child in children(dir).unwrap_or_default() {
        remove_empty(&child);
        let _ = fs::remove_dir(child);
    }
}

/// Writes to a file of the kernel's, and makes none where there is none.
fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    /// A cgroup of the test's own in the hierarchy at `mount`; removed when dropped.
    struct Cgroup(PathBuf);

    impl Cgroup {
        fn new(mount: &Path, name: &str) -> Self {
            let dir = mount.join(format!("tandem-tree-{name}-{}", std::process::id()));
            fs::create_dir(&dir).unwrap();
            Self(dir)
        }

        /// A process in it, or in the cgroup `below` it.
        fn run(&self, below: &str, program: &str, args: &[&str]) -> Child {
            let dir = self.0.join(below);
            fs::create_dir_all(&dir).unwrap();
            let child = Command::new(program).args(args).spawn().unwrap();
            fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
            child
        }
    }

    impl Drop for Cgroup {
        fn drop(&mut self) {
            let _ = remove(&self.0);
        }
    }

    /// Where the kernel's hierarchy of this kind (`freezer`, or nothing for cgroup v2) is mounted, if it is.
    fn mounted(controller: &str) -> Option<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| match controller {
            "" => line.contains(" - cgroup2 "),
            name => line.contains(" - cgroup ") && line.rsplit(['=', ',', ' ']).any(|option| option == name),
        })?;
        line.split(' ').nth(4).map(PathBuf::from)
    }

    fn signal_that_ended(mut child: Child) -> Option<i32> {
        let since = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return std::os::unix::process::ExitStatusExt::signal(&status);
            }
            if since.elapsed() > Duration::from_secs(10) {
                let _ = child.kill();
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn paused_code_does_not_run_on_when_it_is_killed_on_cgroup_v1() {
        let Some(mount) = mounted("freezer") else { return };
        let cgroup = Cgroup::new(&mount, "paused");
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let script = format!(
            "trap 'echo ran >{0}' TERM; echo up >{0}; while :; do sleep 0.01; done",
            mark.display()
        );
        let child = cgroup.run("nested", "sh", &["-c", &script]);
        while !mark.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        freezer::freeze(&cgroup.0).unwrap();
        // One that a thaw before the kill would let run its trap.
        signal(&cgroup.0, libc::SIGTERM);
        kill(&cgroup.0, Some(&cgroup.0));
        assert_eq!(signal_that_ended(child), Some(libc::SIGKILL));
        assert_eq!(fs::read_to_string(&mark).unwrap(), "up\n");
    }

    #[test]
    fn a_cgroup_that_its_container_has_divided_and_frozen_is_removed_with_what_runs_there() {
        for controller in ["freezer", "pids", ""] {
            let Some(mount) = mounted(controller) else { continue };
            let cgroup = Cgroup::new(&mount, "nested");
            let children = ["a", "a/b", "c"].map(|below| cgroup.run(below, "sleep", &["1000"]));
            if controller == "freezer" {
                freezer::freeze(&cgroup.0.join("a/b")).unwrap();
            }
            remove(&cgroup.0).unwrap();
            assert!(!cgroup.0.exists());
            for child in children {
                assert_eq!(signal_that_ended(child), Some(libc::SIGKILL), "{controller}");
            }
        }
    }

    #[test]
    fn any_signal_reaches_every_process_and_no_other() {
        let Some(mount) = mounted("pids").or_else(|| mounted("")) else {
            return;
        };
        let cgroup = Cgroup::new(&mount, "signal");
        let inside = ["", "below"].map(|below| cgroup.run(below, "sleep", &["1000"]));
        let mut outside = Command::new("sleep").arg("1000").spawn().unwrap();
        let real_time = libc::SIGRTMIN() + 3;
        signal(&cgroup.0, real_time);
        for child in inside {
            assert_eq!(signal_that_ended(child), Some(real_time));
        }
        assert!(outside.try_wait().unwrap().is_none());
        outside.kill().unwrap();
        outside.wait().unwrap();
    }

    #[test]
    fn processes_that_fork_all_the_time_do_not_outrun_their_end() {
        for controller in ["freezer", ""] {
            let Some(mount) = mounted(controller) else { continue };
            let cgroup = Cgroup::new(&mount, "forking");
            // Each makes its successor and ends: a list of them is out of date when it is read. None begins before it is in
            // the cgroup, for nobody would ever catch it outside.
            let script = "sh -c \"$0\" \"$0\" & exit";
            let begins = "read go; exec sh -c \"$0\" \"$0\"";
            let mut command = Command::new("sh");
            command
                .args(["-c", begins, script])
                .stdin(Stdio::piped())
                .stdout(Stdio::null());
            let mut child = command.spawn().unwrap();
            fs::write(cgroup.0.join("cgroup.procs"), child.id().to_string()).unwrap();
            child.stdin.take().unwrap().write_all(b"go\n").unwrap();
            std::thread::sleep(Duration::from_millis(50));
            kill(&cgroup.0, (controller == "freezer").then_some(&cgroup.0));
            let _ = child.wait();
            let gone = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                processes(&cgroup.0).unwrap().is_empty()
            });
            assert!(gone, "{controller}: {:?}", processes(&cgroup.0));
        }
    }

    #[test]
    fn the_kernels_own_end_of_a_cgroup_is_used_where_it_has_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cgroup.kill"), "").unwrap();
        kill(dir.path(), None);
        assert_eq!(fs::read_to_string(dir.path().join("cgroup.kill")).unwrap(), "1");
        // No file is made where the kernel has none.
        let old = tempfile::tempdir().unwrap();
        kill(old.path(), None);
        assert_eq!(fs::read_dir(old.path()).unwrap().count(), 0);
    }
}
