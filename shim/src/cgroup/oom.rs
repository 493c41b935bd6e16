//! Processes that the kernel killed because their container was at its memory limit.
//! Source: kernel `cgroup-v1/memory.rst`, 10 "OOM Control"; `cgroup-v2.rst`, `memory.events`.

use std::fs::{File, write};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Cgroups, table};

impl Cgroups {
    /// How many processes of the container the kernel has killed so; none where memory is not counted.
    pub fn oom_kills(&self) -> u64 {
        let file = match (self.unified(), self.controller("memory")) {
            (Some(dir), _) => dir.join("memory.events"),
            (None, Some(dir)) => dir.join("memory.oom_control"),
            (None, None) => return 0,
        };
        table(&file).get("oom_kill").copied().unwrap_or(0)
    }
}

/// Something to poll that becomes readable when the kernel is about to kill, and when the cgroup goes.
pub enum Alarm {
    /// cgroup v1 notifies an eventfd.
    V1(EventFd),
    /// cgroup v2 changes a file.
    V2(Inotify),
}

impl Alarm {
    /// An alarm for the container; none where its memory is not counted.
    pub fn set(cgroups: &Cgroups) -> io::Result<Option<Self>> {
        if let Some(dir) = cgroups.unified() {
            let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            watch.add_watch(&dir.join("memory.events"), AddWatchFlags::IN_MODIFY)?;
            return Ok(Some(Self::V2(watch)));
        }
        let Some(dir) = cgroups.controller("memory") else {
            return Ok(None);
        };
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let control = File::open(dir.join("memory.oom_control"))?;
        let (event_fd, control_fd) = (event.as_fd().as_raw_fd(), control.as_raw_fd());
        write(dir.join("cgroup.event_control"), format!("{event_fd} {control_fd}"))?;
        Ok(Some(Self::V1(event)))
    }

    /// Makes it quiet until the next time. `WouldBlock` if it was.
    pub fn quiet(&self) -> io::Result<()> {
        match self {
            Self::V1(event) => event.read().map(drop)?,
            Self::V2(watch) => watch.read_events().map(drop)?,
        }
        Ok(())
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::V1(event) => event.as_fd(),
            Self::V2(watch) => watch.as_fd(),
        }
    }
}

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Dir;

    #[test]
    fn kills_are_counted_from_the_files_of_either_version() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("memory.events"), "low 0\noom 2\noom_kill 1\n").unwrap();
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        std::fs::write(dir.path().join("memory.oom_control"), control).unwrap();
        let with = |controllers: &[&str]| Cgroups {
            dirs: vec![Dir {
                controllers: controllers.iter().map(ToString::to_string).collect(),
                path: dir.path().to_owned(),
            }],
        };
        assert_eq!(with(&[]).oom_kills(), 1);
        assert_eq!(with(&["memory"]).oom_kills(), 3);
        assert_eq!(with(&["cpu"]).oom_kills(), 0);
    }
}
