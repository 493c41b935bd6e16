//! What a test has left behind, found from outside: the kernel's and the file system's view, not containerd's.

use std::{
    collections::HashSet,
    fmt, fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use containerd_client::services::v1::ListTasksRequest;

use crate::{
    Containerd, Error, Result, cgroup, deadline, process,
    session::{Home, Session, lock},
};

/// One thing that should not exist any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Leftover {
    /// A process of the instance: a shim, a guest, or a descendant of one.
    Process {
        /// Its id.
        pid: u32,
        /// Its command line.
        command: String,
    },
    /// A mount below the instance's directory.
    Mount {
        /// Where.
        point: PathBuf,
        /// File system type.
        kind: String,
    },
    /// A container's cgroup.
    Cgroup(PathBuf),
    /// A file, a socket or a container's directory in the shim's run directory.
    File(PathBuf),
    /// A bundle that containerd made and nobody removed.
    Bundle(PathBuf),
    /// A task that containerd still lists.
    Task(String),
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } => write!(f, "process {pid}: {command}"),
            Self::Mount { point, kind } => write!(f, "mount {} ({kind})", point.display()),
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Bundle(path) => write!(f, "bundle {}", path.display()),
            Self::Task(id) => write!(f, "task {id} in containerd's list"),
        }
    }
}

/// Looks for what came into being since a moment and still exists.
///
/// Only what belongs to one instance is looked at, so that tests in parallel do not see each other's: processes
/// that name its directory or are in its cgroup (and their descendants), mounts and bundles below its directory,
/// cgroups below its parent cgroup, files in the shim's run directory.
#[derive(Debug)]
pub struct Leftovers {
    session: Session,
    known: HashSet<Leftover>,
    only: Option<String>,
}

impl Leftovers {
    /// Takes what exists now as given: only what comes later is reported.
    ///
    /// # Errors
    /// Where containerd does not list its tasks.
    pub async fn before(ctd: &Containerd) -> Result<Self> {
        let mut leftovers = Self::of(ctd);
        leftovers.known = leftovers.found().await?.into_iter().collect();
        Ok(leftovers)
    }

    /// Takes nothing as given: whatever exists is reported.
    pub fn of(ctd: &Containerd) -> Self {
        Self {
            session: ctd.session().clone(),
            known: HashSet::new(),
            only: None,
        }
    }

    /// Reports only what names this one container: for a look while others come and go.
    pub fn of_container(container: &crate::Container) -> Self {
        Self {
            session: container.session().clone(),
            known: HashSet::new(),
            only: Some(container.id().to_owned()),
        }
    }

    /// Does not report the mount at `point`.
    pub fn without_mount(mut self, point: &Path) -> Self {
        let mine = mounts().into_iter().filter(|mount| mount.point == point);
        let mine = mine.map(|Mount { point, kind }| Leftover::Mount { point, kind });
        self.known.extend(mine);
        self
    }

    /// What exists at this moment; things may be on their way out.
    ///
    /// # Errors
    /// Where containerd does not list its tasks.
    pub async fn found(&self) -> Result<Vec<Leftover>> {
        let mut found = seen(&self.session.home);
        let request = self.session.request(ListTasksRequest::default());
        let mut tasks = self.session.client().tasks();
        let call = tasks.list(request);
        let tasks = self.session.call("tasks.List", "", call).await?.tasks;
        found.extend(tasks.into_iter().map(|task| Leftover::Task(task.id)));
        found.retain(|leftover| !self.known.contains(leftover));
        if let Some(only) = &self.only {
            found.retain(|leftover| leftover.to_string().contains(only.as_str()));
        }
        Ok(found)
    }

    /// Waits a moment ([`deadline::SOON`]) for everything to be gone.
    ///
    /// # Errors
    /// [`Error::Leftovers`] lists what is not.
    pub async fn assert_clean(&self) -> Result<()> {
        let since = tokio::time::Instant::now();
        loop {
            let found = self.found().await?;
            if found.is_empty() {
                return Ok(());
            }
            if since.elapsed() > deadline::SOON {
                return Err(Error::Leftovers(found));
            }
            tokio::time::sleep(deadline::POLL).await;
        }
    }
}

/// What can be seen without asking containerd.
pub(crate) fn seen(home: &Home) -> Vec<Leftover> {
    let daemon = home.daemon.load(Ordering::Relaxed);
    let processes = process::of(home, daemon).into_iter();
    let mut found: Vec<Leftover> = processes
        .map(|process| Leftover::Process {
            pid: process.pid,
            command: process.command,
        })
        .collect();
    // A network namespace that the test itself made is kept by a mount; it ends with the test.
    let mine = |mount: &Mount| mount.point.starts_with(&home.dir) && !mount.point.starts_with(home.netns());
    found.extend(
        mounts()
            .into_iter()
            .filter(mine)
            .map(|Mount { point, kind }| Leftover::Mount { point, kind }),
    );
    found.extend(cgroup::below(&home.cgroup()).into_iter().map(Leftover::Cgroup));
    files(&home.shim_run(), &lock(&home.ids), &mut found);
    found.retain(|leftover| !is_of_the_node(&home.shim_run(), leftover));
    for data in [home.state(), home.root()] {
        for namespace in entries(&data.join("io.containerd.runtime.v2.task")) {
            found.extend(entries(&namespace).into_iter().map(Leftover::Bundle));
        }
    }
    found
}

/// What Tandem keeps in its run directory for the node rather than for a container: the lock under which sockets come
/// and go, and the records of which cached code has been verified since boot.
fn is_of_the_node(run: &Path, leftover: &Leftover) -> bool {
    let Leftover::File(path) = leftover else { return false };
    *path == run.join("s/lock") || path.starts_with(run.join("aot"))
}

fn files(dir: &Path, ids: &[String], found: &mut Vec<Leftover>) {
    for path in entries(dir) {
        let name = path.file_name().map(|name| name.to_string_lossy());
        let of_container = name.is_some_and(|name| ids.iter().any(|id| name.contains(id.as_str())));
        let is_dir = path.symlink_metadata().is_ok_and(|data| data.is_dir());
        if is_dir {
            files(&path, ids, found);
        }
        if !is_dir || of_container {
            found.push(Leftover::File(path));
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// One line of the mount table.
pub(crate) struct Mount {
    pub point: PathBuf,
    pub kind: String,
}

/// The mount table of this process's namespace, in mount order.
pub(crate) fn mounts() -> Vec<Mount> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(mount).collect()
}

/// proc_pid_mountinfo(5): the mount point is field 5, the type follows the separator `-`.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    Some(Mount {
        point: unescape(before.split(' ').nth(4)?).into(),
        kind: after.split(' ').next()?.to_owned(),
    })
}

/// The kernel writes blank, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_a_blank_is_read_from_the_mount_table() {
        let line = "41 31 0:38 / /a\\040b rw,relatime shared:7 master:1 - ext4 /dev/vda rw";
        let mount = mount(line).unwrap();
        assert_eq!(mount.point, Path::new("/a b"));
        assert_eq!(mount.kind, "ext4");
    }
}
