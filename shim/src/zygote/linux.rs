//! Linux containers: execve of `process.args`, with the check before Start that a person wants to read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use oci_spec::runtime::Spec;

/// Part of the message when there is no such file; the worker tells the kind of fault by it.
pub const NOT_FOUND: &str = "no such file in the container";
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

impl Executor for LinuxExecutor {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
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
        locate(name, path.unwrap_or(DEFAULT_PATH)).map(drop).map_err(fault)
    }

    fn setup_envs(&self, envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        *self.env.borrow_mut() = envs.into_iter().collect();
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = spec
            .process()
            .as_ref()
            .and_then(|process| process.args().clone())
            .ok_or(ExecutorError::InvalidArg)?;
        let env = self.env.borrow();
        let path = env
            .iter()
            .find(|(key, _)| key == "PATH")
            .map(|(_, value)| value.as_str());
        let name = args.first().ok_or(ExecutorError::InvalidArg)?;
        let file = locate(name, path.unwrap_or(DEFAULT_PATH)).map_err(ExecutorError::Other)?;
        let c = |text: &str| CString::new(text).map_err(|_| ExecutorError::InvalidArg);
        let argv = args.iter().map(|arg| c(arg)).collect::<Result<Vec<_>, _>>()?;
        let envp = env
            .iter()
            .map(|(key, value)| c(&format!("{key}={value}")))
            .collect::<Result<Vec<_>, _>>()?;
        // Last, so that nothing but the program gets the label.
        if let Err(error) = super::labels::set_for_next_exec(spec) {
            eprintln!("tandem: {error}");
            std::process::exit(126);
        }
        let errno = match nix::unistd::execve(&c(&file.to_string_lossy())?, &argv, &envp) {
            Ok(never) => match never {},
            Err(errno) => errno,
        };
        // After Start there is nobody to return an error to but the container's own stderr; codes as a shell's.
        eprintln!("tandem: cannot execute {}: {errno}", file.display());
        std::process::exit(if errno == nix::errno::Errno::ENOENT { 127 } else { 126 });
    }
}

/// The file that `execvp` would run, or why there is none.
fn locate(name: &str, path: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        return check(Path::new(name)).map(|()| name.into());
    }
    let mut refused = None;
    for dir in path.split(':') {
        let file = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(error) if error.contains(NOT_EXECUTABLE) => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| {
        format!("\"{name}\": {NOT_FOUND}'s PATH ({path}); correct the image's entrypoint or the pod's command")
    }))
}

fn check(file: &Path) -> Result<(), String> {
    let name = file.display();
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!(
                "\"{name}\": {NOT_FOUND}; correct the image's entrypoint or the pod's command"
            ));
        }
        Err(error) => return Err(format!("\"{name}\" {NOT_EXECUTABLE}: {error}")),
    };
    if metadata.is_dir() {
        return Err(format!("\"{name}\" {NOT_EXECUTABLE}: it is a directory"));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(format!(
            "\"{name}\" {NOT_EXECUTABLE}: set its x permission in the image"
        ));
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
        assert!(locate("/nonexistent", "").unwrap_err().contains(NOT_FOUND));
        assert!(locate("nonexistent", "/bin").unwrap_err().contains("PATH"));
        assert!(locate("/etc/passwd", "").unwrap_err().contains("x permission"));
        assert!(locate("/etc", "").unwrap_err().contains("directory"));
    }
}
