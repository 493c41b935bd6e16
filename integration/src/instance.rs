//! A private containerd: started, restarted, killed and taken away by a test.

use std::{ffi::OsStr, fs, path::Path, sync::atomic::Ordering};

use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    ContainerBuilder, ContainerdBuilder, Error, Events, Generation, Leftovers, Result,
    cleanup::{self, Owner},
    daemon::{Daemon, Launch},
    deadline,
    generation::Binaries,
    image::{Image, Layout},
    session::{Home, Session, lock},
};

/// A running private containerd. End it by [`Containerd::stop`], which also looks for leftovers; merely dropped it
/// is killed, its log's end is printed, and everything of it is swept away.
#[derive(Debug)]
pub struct Containerd {
    pub(crate) generation: Generation,
    pub(crate) binaries: Binaries,
    pub(crate) launch: Launch,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) session: Session,
    pub(crate) ended: bool,
    pub(crate) _owner: Owner,
}

impl Containerd {
    /// Starts one with the defaults.
    ///
    /// # Errors
    /// As [`ContainerdBuilder::start`].
    pub async fn start(generation: Generation) -> Result<Self> {
        Self::builder(generation).start().await
    }

    /// One that can be configured.
    pub fn builder(generation: Generation) -> ContainerdBuilder {
        ContainerdBuilder::new(generation)
    }

    /// Its generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Its paths and names.
    pub fn home(&self) -> &Home {
        &self.session.home
    }

    /// The connection that raw requests go through.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The daemon's process id, `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::pid)
    }

    /// Writes an image's blobs, unpacks its layers and makes its record: what a pull does.
    ///
    /// # Errors
    /// Where containerd refuses a blob, a layer or the record.
    pub async fn import(&self, layout: &Layout) -> Result<Image> {
        crate::image::import(&self.session, layout).await
    }

    /// A container of `image`, to be configured and created.
    pub fn container(&self, image: &Image) -> ContainerBuilder {
        ContainerBuilder::new(self.session.clone(), image)
    }

    /// Subscribes to events; what happens after the return is seen.
    ///
    /// # Errors
    /// Where containerd does not deliver.
    pub async fn events(&self) -> Result<Events> {
        Events::subscribe(self.session.clone()).await
    }

    /// Runs this generation's `ctr` in this instance and namespace; answers its standard output.
    ///
    /// # Errors
    /// [`Error::Setup`] with `ctr`'s message where it fails.
    pub async fn ctr(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        let mut command = Command::new(&self.binaries.ctr);
        command.arg("--address").arg(self.home().socket());
        command.args(["--namespace", &self.session.namespace]).args(args);
        command.kill_on_drop(true);
        let output = deadline::within("the end of ctr", deadline::CALL, command.output()).await?;
        let output = output.map_err(Error::system("cannot run", &self.binaries.ctr))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(Error::Setup(format!("{command:?}: {errors}")))
    }

    /// Stops the daemon as a service manager would and starts it again; containers run on.
    ///
    /// # Errors
    /// Where it does not come up again.
    pub async fn restart(&mut self) -> Result<()> {
        self.shut_down();
        self.boot().await
    }

    /// Kills the daemon by SIGKILL and starts it again; containers run on.
    ///
    /// # Errors
    /// Where it does not come up again.
    pub async fn kill9_and_restart(&mut self) -> Result<()> {
        self.kill9();
        self.boot().await
    }

    /// Kills the daemon by SIGKILL and leaves it down, until [`Containerd::boot`].
    pub fn kill9(&mut self) {
        self.down(Daemon::kill9);
    }

    /// Stops the daemon as a service manager would and leaves it down, until [`Containerd::boot`].
    pub fn shut_down(&mut self) {
        self.down(Daemon::terminate);
    }

    /// Starts the daemon where it is down, and waits until its gRPC answers.
    ///
    /// # Errors
    /// [`Error::Setup`] with the log's end where it does not come up.
    pub async fn boot(&mut self) -> Result<()> {
        if self.daemon.is_some() {
            return Ok(());
        }
        let daemon = self.daemon.insert(Daemon::spawn(&self.launch)?);
        self.session.home.daemon.store(daemon.pid(), Ordering::Relaxed);
        let since = Instant::now();
        loop {
            let request = self.session.request(());
            let mut version = self.session.client().version();
            let call = version.version(request);
            let answer = self.session.call_for(deadline::SOON, "version", "", call);
            let Err(cause) = answer.await else {
                return Ok(());
            };
            if daemon.has_exited() || since.elapsed() > deadline::BOOT {
                let log = log_end(&self.launch.log);
                return Err(Error::Setup(format!(
                    "containerd {} ({}) does not come up: {}\n{log}",
                    self.generation,
                    self.launch.binary.display(),
                    cause.message(),
                )));
            }
            sleep(deadline::POLL).await;
        }
    }

    /// Everything that exists of this instance's containers must be gone: see [`Leftovers`].
    ///
    /// # Errors
    /// [`Error::Leftovers`] lists what is not.
    pub async fn assert_clean(&self) -> Result<()> {
        Leftovers::of(self).assert_clean().await
    }

    /// As [`Containerd::assert_clean`], but for a mount that the test itself has made at `mount`.
    ///
    /// # Errors
    /// [`Error::Leftovers`] lists what is not gone.
    pub async fn assert_clean_but(&self, mount: &Path) -> Result<()> {
        Leftovers::of(self).without_mount(mount).assert_clean().await
    }

    /// The regular end of a test: nothing may be left; then the daemon is stopped and its directory removed.
    ///
    /// # Errors
    /// [`Error::Leftovers`] lists what was left (and is gone after).
    pub async fn stop(mut self) -> Result<()> {
        self.assert_clean().await?;
        self.discard_now();
        Ok(())
    }

    /// The end of a test that leaves things on purpose: everything is killed and removed without a word.
    pub fn discard(mut self) {
        self.discard_now();
    }

    fn discard_now(&mut self) {
        self.down(Daemon::terminate);
        self.ended = true;
        cleanup::clear(&self.session.home);
    }

    fn down(&mut self, end: fn(Daemon)) {
        if let Some(daemon) = self.daemon.take() {
            end(daemon);
        }
        self.session.home.daemon.store(0, Ordering::Relaxed);
    }

    /// The end of containerd's log, with what its shims wrote.
    pub fn log(&self) -> String {
        log_end(&self.launch.log)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let ids = lock(&self.session.home.ids).join(" ");
        eprintln!(
            "--- containerd {} ended before its time; containers: {ids}; its log:\n{}---",
            self.generation,
            self.log()
        );
        self.down(Daemon::kill9);
        cleanup::clear_failed(&self.session.home);
    }
}

/// The last lines of a log: the end tells why.
fn log_end(log: &Path) -> String {
    const LINES: usize = 120;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let end = &lines[lines.len().saturating_sub(LINES)..];
    end.iter().map(|line| format!("{line}\n")).collect()
}
