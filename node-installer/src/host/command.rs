//! Runs the host's own programs, in the host's root directory: its containerd must judge the configuration, and its
//! systemctl must talk to its systemd. This needs CAP_SYS_CHROOT and nothing more: no host namespace is entered.

use std::{
    ffi::CString,
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::Host;
use crate::error::{Error, Result};

/// The search path of the host's programs; systemd's default (`DEFAULT_PATH`) with the sbin directories.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Lines of a program's output that go into an error.
const SHOWN_LINES: usize = 12;
/// How often a program whose file is still open for writing is tried again, and after which time: a fork's way to its
/// exec takes milliseconds.
const BUSY_TRIES: usize = 50;
const BUSY_WAIT: Duration = Duration::from_millis(10);

/// What a program left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    command: String,
}

impl Finished {
    /// The standard output of a program that ended well.
    ///
    /// # Errors
    /// [`Error::Command`] with the end of its output.
    pub fn success(self) -> Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let text = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        Err(Error::Command {
            why: format!("failed ({}): {}", self.status, end.trim()),
            command: self.command,
        })
    }
}

impl Host {
    /// Runs a program of the host and waits for its end, at most `limit`; after that it is killed.
    ///
    /// # Errors
    /// Where it cannot be started or does not end in time; that it fails is in the answer.
    pub async fn run(&self, program: &Path, args: &[&str], limit: Duration) -> Result<Finished> {
        let shown = format!("{} {}", program.display(), args.join(" "));
        let failed = |why: String| Error::Command {
            command: shown.clone(),
            why,
        };
        let mut command = Command::new(self.seen_by_programs(program));
        command
            .args(args)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            // systemctl ignores requests in a chroot unless told that the chroot is meant (systemd docs/ENVIRONMENT).
            .env("SYSTEMD_IGNORE_CHROOT", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if self.chroot {
            let root = CString::new(self.root.as_os_str().as_bytes())
                .map_err(|_| failed("cannot run: the host's root has a NUL byte in its path".into()))?;
            // SAFETY: between fork and exec only two system calls are made, on a string made before the fork; both
            // are async-signal-safe, and nothing is allocated or locked.
            unsafe {
                command.pre_exec(move || {
                    if libc::chroot(root.as_ptr()) != 0 || libc::chdir(c"/".as_ptr()) != 0 {
                        return Err(io::Error::last_os_error());
                    }
                    Ok(())
                });
            }
        }
        let child = spawn(&mut command)
            .await
            .map_err(|error| failed(format!("cannot be started: {error}")))?;
        let output = timeout(limit, child.wait_with_output())
            .await
            .map_err(|_| Error::Deadline {
                what: format!("the end of `{shown}`"),
                after: limit,
            })?;
        let output = output.map_err(|error| failed(format!("cannot be waited for: {error}")))?;
        Ok(Finished {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command: shown,
        })
    }
}

/// Starts a program, also one whose file was just written: a process that another thread forks meanwhile holds that file
/// open for writing until its exec, and the kernel refuses to run it that long (ETXTBSY).
async fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..BUSY_TRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => sleep(BUSY_WAIT).await,
            started => return started,
        }
    }
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_fails_is_told_with_its_output() {
        let host = Host::new("/");
        let script = ["-c", "echo broken file >&2; exit 3"];
        let finished = host
            .run(Path::new("/bin/sh"), &script, Duration::from_secs(5))
            .await
            .unwrap();
        let error = finished.success().unwrap_err().to_string();
        assert!(error.contains("broken file") && error.contains('3'), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_given_up() {
        let host = Host::new("/");
        let error = host
            .run(Path::new("/bin/sleep"), &["30"], Duration::from_millis(50))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
    }
}
