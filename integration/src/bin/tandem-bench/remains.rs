//! What the baseline leaves outside of the instance, where the harness does not look.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use tandem_integration::Containerd;

/// Where the baseline keeps its containers' state: a folder for each namespace, in it one for each container.
const STATE: &str = "/run/containerd/baseline";
/// Where its sockets are, among those of all other shims on the machine. Of some of many tasks in parallel they stay.
const SOCKETS: &str = "/run/containerd/s";
/// A socket that nobody answers at may be one that a shim is just about to listen on, unless it is as old as this.
const AGE: Duration = Duration::from_secs(5);

/// Takes away what the baseline has left of an instance, when dropped.
#[derive(Debug)]
pub struct Remains {
    state: PathBuf,
    instance: String,
    foreign: HashSet<PathBuf>,
}

impl Remains {
    /// Of an instance that has not run anything yet.
    pub fn of(ctd: &Containerd) -> Self {
        Self {
            state: Path::new(STATE).join(ctd.session().namespace()),
            instance: ctd.home().name.clone(),
            foreign: entries(Path::new(SOCKETS)).into_iter().collect(),
        }
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        for container in entries(&self.state) {
            if container.to_string_lossy().ends_with(&self.instance) {
                let _ = fs::remove_dir_all(container);
            }
        }
        // These stay where they are not empty: others have them too.
        let _ = fs::remove_dir(&self.state);
        let _ = fs::remove_dir(STATE);
        for socket in entries(Path::new(SOCKETS)) {
            if !self.foreign.contains(&socket) && is_dead(&socket) {
                let _ = fs::remove_file(socket);
            }
        }
    }
}

fn is_dead(socket: &Path) -> bool {
    let made = socket.symlink_metadata().and_then(|data| data.modified()).ok();
    let is_old = made.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > AGE);
    let refuses = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_old && UnixStream::connect(socket).is_err_and(refuses)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{os::unix::net::UnixListener, process::Command, time::SystemTime};

    #[test]
    fn only_an_old_socket_at_which_nobody_listens_is_dead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let age = |seconds| {
            let then = SystemTime::now() - Duration::from_secs(seconds);
            let text = format!("@{}", then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
            let touched = Command::new("touch").args(["-d", &text]).arg(&path).status();
            assert!(touched.unwrap().success());
        };
        age(60);
        assert!(!is_dead(&path), "somebody listens");
        drop(listener);
        assert!(is_dead(&path));
        age(0);
        assert!(!is_dead(&path), "somebody may be about to listen");
    }
}
