//! Finds the processes of an instance, also those that have lost their parents: by what they name (command line,
//! environment, program, directories), by their cgroup, and by descent from one of these.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use crate::session::Home;

/// A process that belongs to an instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub pid: u32,
    pub command: String,
}

/// The instance's processes but `except` (the daemon) and the caller.
pub(crate) fn of(home: &Home, except: u32) -> Vec<Process> {
    let needles = [home.dir.as_os_str().as_bytes(), home.cgroup().as_bytes()].map(<[u8]>::to_vec);
    let me = std::process::id();
    let mut parents = BTreeMap::new();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        if pid == me || pid == except {
            continue;
        }
        let Some((state, parent)) = state_and_parent(pid) else {
            continue;
        };
        // A zombie whose parent is init is gone as far as anyone here can tell: reaping it is init's.
        if state == 'Z' && parent == 1 {
            continue;
        }
        parents.insert(pid, parent);
        if names_any(&entry.path(), &needles) {
            found.insert(pid);
        }
    }
    loop {
        let children: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(*parent) && !found.contains(*pid))
            .map(|(pid, _)| *pid)
            .collect();
        if children.is_empty() {
            break;
        }
        found.extend(children);
    }
    found
        .into_iter()
        .map(|pid| Process {
            pid,
            command: command(pid),
        })
        .collect()
}

fn names_any(process: &Path, needles: &[Vec<u8>]) -> bool {
    let named = |text: &[u8]| needles.iter().any(|needle| contains(text, needle));
    ["cmdline", "environ", "cgroup"]
        .iter()
        .any(|file| fs::read(process.join(file)).is_ok_and(|text| named(&text)))
        || ["exe", "cwd", "root"]
            .iter()
            .any(|link| fs::read_link(process.join(link)).is_ok_and(|to| named(to.as_os_str().as_bytes())))
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

/// State letter and parent from `/proc/PID/stat`; the name in parentheses may hold anything, a parenthesis too.
fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.next()?.parse().ok()?))
}

fn command(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    if !line.trim().is_empty() {
        return line.trim().to_owned();
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("[{}]", name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_and_its_child_are_found_by_the_directory_in_their_environment() {
        let home = Home::new("/tmp/tdm-process-test".into(), "process-test".into());
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "env -i sleep 30 & wait"])
            .env("ANY", "/tmp/tdm-process-test/x")
            .spawn()
            .unwrap();
        let since = std::time::Instant::now();
        let mut seen = of(&home, 0);
        while !seen.iter().any(|process| process.command == "sleep 30") {
            assert!(since.elapsed() < crate::deadline::SOON, "{seen:?}");
            seen = of(&home, 0);
        }
        assert_eq!(seen.len(), 2, "{seen:?}");
        for process in &seen {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(process.pid).unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        shell.wait().unwrap();
    }

    #[test]
    fn another_instances_processes_are_not_found() {
        let home = Home::new("/tmp/tdm-nobody".into(), "nobody".into());
        assert_eq!(of(&home, 0), []);
    }
}
