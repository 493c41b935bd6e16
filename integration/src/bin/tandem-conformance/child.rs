//! Programs that end with this one, however it ends.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::Path,
    process::Stdio,
};

use tandem_integration::{Error, Result};
use tokio::process::{Child, Command};

/// A command for `program`, which the kernel kills where its parent dies first.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Starts a command whose output goes to the file `log`.
///
/// # Errors
/// Where the file cannot be made or the program not started.
pub fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let opened = File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
    let (output, errors) = opened.map_err(|cause| Error::Setup(format!("cannot write {}: {cause}", log.display())))?;
    let child = command.stdout(output).stderr(errors).spawn();
    child.map_err(|cause| Error::Setup(format!("cannot start {command:?}: {cause}")))
}

/// Writes a file and the directories above it.
///
/// # Errors
/// Where the file system refuses.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    let written = fs::create_dir_all(parent).and_then(|()| fs::write(path, text));
    written.map_err(|cause| Error::Setup(format!("cannot write {}: {cause}", path.display())))
}
