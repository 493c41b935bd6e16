//! Linux containers: execve of `process.args`, with the check before Start that a person wants to read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::CString;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use oci_spec::runtime::Spec;

use super::null;
use crate::fault::{Fault, Kind};

/// Part of the message when there is no such file; the worker tells the kind of fault by it.
pub const NOT_FOUND: &str = "no such file or directory in the container";
/// Part of the message when the file cannot be executed.
pub const NOT_EXECUTABLE: &str = "is not executable";
/// What `execvp` searches without PATH. Source: execvp(3), as runc does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs in the confined first process of a Linux container.
#[derive(Debug, Clone, Default)]
pub struct LinuxExecutor {
    /// Kept here, not in the process's own environment, which a forked process must not change.
    env: RefCell<Vec<(String, String)>>,
}

impl LinuxExecutor {
    /// Becomes the program; returns only if that fails.
    pub fn execute(&self, spec: &Spec) -> Fault {
        let Err(fault) = self.try_execute(spec);
        fault
    }

    fn try_execute(&self, spec: &Spec) -> Result<Infallible, Fault> {
        let process = spec.process().as_ref();
        let args = process
            .and_then(|process| process.args().as_deref())
            .unwrap_or_default();
        let name = args.first().ok_or_else(|| Fault::invalid("process.args is empty"))?;
        let env = self.env.borrow();
        let path = env.iter().find(|(key, _)| key == "PATH");
        let file = locate(name, path.map_or(DEFAULT_PATH, |(_, value)| value))?;
        let c = |text: String| {
            CString::new(text).map_err(|_| Fault::invalid("an argument or a variable holds a zero byte"))
        };
        let argv = args.iter().cloned().map(c).collect::<Result<Vec<_>, _>>()?;
        let envp = env.iter().map(|(key, value)| c(format!("{key}={value}")));
        let envp = envp.collect::<Result<Vec<_>, _>>()?;
        let program = c(file.to_string_lossy().into_owned())?;
        // Last, so that nothing but the program gets the label.
        super::labels::set_for_next_exec(spec).map_err(|error| Fault::invalid(error.to_string()))?;
        nix::unistd::execve(&program, &argv, &envp).map_err(|errno| {
            let message = format!("cannot execute {}: {errno}", file.display());
            match errno {
                // Of an interpreter: the file itself was there a moment ago.
                Errno::ENOENT => Fault::not_found(message),
                _ => Fault::invalid(message),
            }
        })
    }
}

impl Executor for LinuxExecutor {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        null::make_outputs_writable();
        let fault = ExecutorValidationError::ArgValidationError;
        let process = spec.process().as_ref().ok_or_else(|| fault("no process".into()))?;
        let name = process
            .args()
            .as_ref()
            .and_then(|args| args.first())
            .ok_or_else(|| fault("process.args is empty".into()))?;
        let path = process
            .env()
            .as_ref()
            .and_then(|env| env.iter().find_map(|var| var.strip_prefix("PATH=")));
        locate(name, path.unwrap_or(DEFAULT_PATH))
            .map(drop)
            .map_err(|found| fault(format!("{found}; correct the image's entrypoint or the pod's command")))
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        *self.env.borrow_mut() = envs.into_iter().collect();
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let fault = self.execute(spec);
        // After Start there is nobody to return an error to but the container's own stderr; codes as a shell's.
        eprintln!("tandem: {fault}");
        std::process::exit(if fault.kind == Kind::NotFound { 127 } else { 126 });
    }
}

/// The file that `execvp` would run, or why there is none: in words that clients know, who answer 127 or 126 by them.
fn locate(name: &str, path: &str) -> Result<PathBuf, Fault> {
    if name.contains('/') {
        return check(name, Path::new(name)).map(|()| name.into());
    }
    let mut refused = None;
    for dir in path.split(':') {
        let file = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match check(name, &file) {
            Ok(()) => return Ok(file),
            Err(fault) if fault.kind != Kind::NotFound => refused = Some(fault),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| {
        Fault::not_found(format!(
            "exec: \"{name}\": executable file not found in $PATH: {NOT_FOUND}'s PATH ({path})"
        ))
    }))
}

fn check(name: &str, file: &Path) -> Result<(), Fault> {
    let refused = |why: &str| {
        let file = file.display();
        Fault::invalid(format!(
            "exec: \"{name}\": permission denied: {file} {NOT_EXECUTABLE}: {why}"
        ))
    };
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Fault::not_found(format!("exec: \"{name}\": {NOT_FOUND}")));
        }
        Err(error) => return Err(refused(&error.to_string())),
    };
    if metadata.is_dir() {
        return Err(refused("it is a directory"));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(refused("set its x permission in the image"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_found_on_path_as_execvp_would() {
        assert_eq!(locate("sh", "/nonexistent:/bin").unwrap(), Path::new("/bin/sh"));
        assert_eq!(locate("/bin/sh", "").unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn what_cannot_be_executed_is_explained() {
        let why = |name, path| locate(name, path).unwrap_err();
        assert_eq!(why("/nonexistent", "").kind, Kind::NotFound);
        assert!(why("/nonexistent", "").message.contains(NOT_FOUND));
        assert!(why("nonexistent", "/bin").message.contains("not found in $PATH"));
        assert!(why("/etc/passwd", "").message.contains("x permission"));
        assert!(why("/etc", "").message.contains("directory"));
        assert_eq!(why("/etc", "").kind, Kind::InvalidArgument);
    }
}
