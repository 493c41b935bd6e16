//! The containerd process of an instance.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Error, Result, deadline::POLL};

/// How long containerd may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// How an instance's containerd is started, each time.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub binary: PathBuf,
    pub config: PathBuf,
    pub log: PathBuf,
    pub level: &'static str,
    /// The whole environment: shims inherit it, so that nothing of the caller's may reach them by chance.
    pub environment: BTreeMap<OsString, OsString>,
}

/// A running containerd.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    pub fn spawn(launch: &Launch) -> Result<Self> {
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        let log = open(&launch.log).map_err(Error::system("cannot open", &launch.log))?;
        let errors = log
            .try_clone()
            .map_err(Error::system("cannot duplicate", &launch.log))?;
        let child = Command::new(&launch.binary)
            .arg("--config")
            .arg(&launch.config)
            .args(["--log-level", launch.level])
            .env_clear()
            .envs(&launch.environment)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(Error::system("cannot start", &launch.binary))?;
        Ok(Self { child })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has ended.
    pub fn has_exited(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends the process as a service manager would, by force after [`GRACE`].
    pub fn terminate(mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // The child is not reaped yet, so that the id cannot be another process's.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let since = Instant::now();
        while since.elapsed() < GRACE {
            if self.has_exited() {
                return;
            }
            std::thread::sleep(POLL);
        }
        self.kill9();
    }

    /// Ends the process by SIGKILL, as a crash would.
    pub fn kill9(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
