//! Takes away everything that belongs to an instance, whatever state it is in: after a failed test, and at the
//! next run after a test run that was itself killed.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Once,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MntFlags, umount2},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Error, Result, cgroup, deadline, leftovers::mounts, process, session::Home};

/// Instances' directories start so. It is short because a socket's path holds 107 bytes.
pub(crate) const PREFIX: &str = "tdm-";
/// Locked as long as the process that owns the instance lives.
const LOCK: &str = "lock";
/// Marks the directory of a failed test that somebody wants to look into.
const KEEP: &str = "keep";
/// Where runc's shim keeps state and sockets, whatever the instance.
const RUNC: [&str; 2] = ["/run/containerd/runc", "/run/containerd/s"];

/// The lock that tells other test runs that an instance is alive.
#[derive(Debug)]
pub(crate) struct Owner(#[allow(dead_code, reason = "held, not used")] Flock<File>);

impl Owner {
    /// Locks an instance's directory for as long as the answer lives.
    pub fn of(dir: &Path) -> Result<Self> {
        // The file appears under its name only when locked: else another run could take it for a dead one's.
        let new = dir.join("lock.new");
        let file = File::create(&new).map_err(Error::system("cannot create", &new))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, cause)| Error::system("cannot lock", &new)(cause))?;
        fs::rename(&new, dir.join(LOCK)).map_err(Error::system("cannot rename", &new))?;
        Ok(Self(lock))
    }
}

/// Once per process: clears away the instances in `base` whose owner is dead.
pub(crate) fn sweep(base: &Path) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| sweep_now(base));
}

fn sweep_now(base: &Path) {
    for dir in entries(base) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_prefix(PREFIX).map(str::to_owned) else {
            continue;
        };
        if is_dead(&dir) {
            clear(&Home::new(dir, name));
        }
    }
}

fn is_dead(dir: &Path) -> bool {
    if dir.join(KEEP).exists() {
        return false;
    }
    match File::open(dir.join(LOCK)) {
        Ok(file) => Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok(),
        // Being made at this moment, or left by a run that was killed while it made it.
        Err(_) => dir
            .metadata()
            .and_then(|data| data.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok())
            .is_some_and(|age| age > Duration::from_secs(60)),
    }
}

/// Kills, unmounts and removes all that belongs to the instance, its directory too. It must have no daemon any more,
/// or one that may be killed too.
pub(crate) fn clear(home: &Home) {
    end(home);
    let _ = fs::remove_dir_all(&home.dir);
}

/// As [`clear`], but where somebody asked for it (`TANDEM_KEEP`) the directory stays, to be looked into.
pub(crate) fn clear_failed(home: &Home) {
    if std::env::var_os("TANDEM_KEEP").is_none() {
        clear(home);
        return;
    }
    end(home);
    let _ = File::create(home.dir.join(KEEP));
    eprintln!("kept: {}", home.dir.display());
}

fn end(home: &Home) {
    kill_all(home);
    for mount in mounts().iter().rev() {
        if mount.point.starts_with(&home.dir) {
            let _ = umount2(&mount.point, MntFlags::MNT_DETACH);
        }
    }
    let since = Instant::now();
    loop {
        // A cgroup is busy for a moment after its last process has gone.
        cgroup::remove(&home.cgroup());
        if cgroup::below(&home.cgroup()).is_empty() || since.elapsed() > deadline::SOON {
            break;
        }
        std::thread::sleep(deadline::POLL);
    }
    remove_runc_state(home);
}

fn kill_all(home: &Home) {
    let since = Instant::now();
    // More than one round: a process may have forked between the look and the kill.
    while since.elapsed() < deadline::SOON {
        let processes = process::of(home, 0);
        if processes.is_empty() {
            return;
        }
        for process in processes {
            if let Ok(pid) = i32::try_from(process.pid) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        std::thread::sleep(deadline::POLL);
    }
}

/// runc's shim puts its state and socket outside of the instance; a killed one leaves both there.
fn remove_runc_state(home: &Home) {
    let [states, sockets] = RUNC.map(Path::new);
    for namespace in entries(states) {
        for state in entries(&namespace) {
            let name = state.file_name().unwrap_or_default().to_string_lossy();
            if name.contains(&home.name) {
                let _ = fs::remove_dir_all(&state);
            }
        }
    }
    for namespace in entries(&home.state().join("io.containerd.runtime.v2.task")) {
        for bundle in entries(&namespace) {
            for file in ["address", "bootstrap.json"] {
                let text = fs::read_to_string(bundle.join(file)).unwrap_or_default();
                let after = text.split("unix://").nth(1).unwrap_or_default();
                let path = Path::new(after.split(['"', '\n']).next().unwrap_or_default());
                if path.parent() == Some(sockets) {
                    let _ = fs::remove_file(path);
                }
            }
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_next_run_clears_away_what_a_killed_run_left_and_nothing_else() {
        let base = tempfile::tempdir().unwrap();
        let [dead, alive, kept] = ["dead", "alive", "kept"].map(|name| base.path().join(format!("{PREFIX}{name}")));
        for dir in [&dead, &alive, &kept] {
            fs::create_dir(dir).unwrap();
        }
        drop(Owner::of(&dead).unwrap());
        let _owner = Owner::of(&alive).unwrap();
        drop(Owner::of(&kept).unwrap());
        File::create(kept.join(KEEP)).unwrap();
        let mut process = Command::new("sleep").arg("30").env("OF", &dead).spawn().unwrap();
        while process::of(&Home::new(dead.clone(), "dead".into()), 0).is_empty() {
            std::thread::sleep(deadline::POLL);
        }

        sweep_now(base.path());
        assert!(!process.wait().unwrap().success());
        assert!(!dead.exists() && alive.exists() && kept.exists());
    }
}
