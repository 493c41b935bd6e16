//! Linux programs: execve of `process.args`, with the check before Start that a person wants to read.

use std::convert::Infallible;
use std::ffi::CString;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::AccessFlags;
use oci_spec::runtime::Process;
use tandem_confine::process::{labels, limits};
use tandem_confine::sys::descriptors;
use tandem_confine::{Class, Confined, Error, Result};

use crate::entry::path_variable;

/// Part of the message when there is no such file; clients answer 127 by it.
pub const NOT_FOUND: &str = "no such file or directory in the container";
/// Part of the message when the file cannot be executed.
pub const NOT_EXECUTABLE: &str = "is not executable";

/// Checks before Start that the program is there.
pub fn check(process: &Process, env: &[String], is_first: bool) -> Result<()> {
    locate(name_of(process)?, path_variable(env))
        .map(drop)
        .map_err(|mut error| {
            if is_first {
                error
                    .why
                    .push_str("; correct the image's entrypoint or the pod's command");
            }
            error
        })
}

/// Becomes the program; returns only if that fails.
pub fn execute(confined: &Confined) -> Result<Infallible> {
    let (process, env) = (&confined.process, &confined.env);
    let file = locate(name_of(process)?, path_variable(env))?;
    let c = |text: &str| {
        CString::new(text).map_err(|_| Error::invalid("process.args and process.env", "one holds a zero byte"))
    };
    let args = process.args().as_deref().unwrap_or_default();
    let argv = args.iter().map(|arg| c(arg)).collect::<Result<Vec<_>>>()?;
    let envp = env.iter().map(|variable| c(variable)).collect::<Result<Vec<_>>>()?;
    let program = c(&file.to_string_lossy())?;
    // A program expects to be started with what the shim ignores and blocks for itself at its default.
    descriptors::default_signals();
    // Last, so that nothing but the program gets the label; but a limit of open files may forbid even that.
    labels::set_for_next_exec(process).map_err(|error| label_failed(process, &error))?;
    limits::set_files(process.rlimits().as_deref().unwrap_or_default())?;
    nix::unistd::execve(&program, &argv, &envp).map_err(|errno| {
        let what = format!("cannot execute {}", file.display().to_string().escape_debug());
        let class = match errno {
            // Of an interpreter: the file itself was there a moment ago.
            Errno::ENOENT => Class::NotFound,
            _ => Class::Invalid,
        };
        Error::kernel(class, what, errno)
    })
}

/// A label that cannot be set is the spec's fault, or the node's.
pub fn label_failed(process: &Process, error: &std::io::Error) -> Error {
    let label = [process.apparmor_profile(), process.selinux_label()];
    let label = label.into_iter().flatten().find(|label| !label.is_empty());
    Error::invalid(
        format!("security label \"{}\"", label.map_or("", String::as_str).escape_debug()),
        format!("{error} (is the profile loaded on this node?)"),
    )
}

fn name_of(process: &Process) -> Result<&str> {
    let args = process.args().as_deref().unwrap_or_default();
    let name = args.first().filter(|name| !name.is_empty());
    name.map(String::as_str)
        .ok_or_else(|| Error::invalid("process.args", "it is empty"))
}

/// The file that `execvp` would run, or why there is none: in words that clients know, who answer 127 or 126 by them.
fn locate(name: &str, path: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return check_file(name, Path::new(name)).map(|()| name.into());
    }
    let mut refused = None;
    for dir in path.split(':') {
        let file = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match check_file(name, &file) {
            Ok(()) => return Ok(file),
            Err(error) if error.class != Class::NotFound => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(refused.unwrap_or_else(|| {
        Error::new(
            Class::NotFound,
            exec_of(name),
            format!(
                "executable file not found in $PATH: {NOT_FOUND}'s PATH ({})",
                path.escape_debug()
            ),
        )
    }))
}

fn exec_of(name: &str) -> String {
    format!("exec: \"{}\"", name.escape_debug())
}

fn check_file(name: &str, file: &Path) -> Result<()> {
    let refused = |why: &str| {
        let file = file.display().to_string();
        Error::invalid(
            exec_of(name),
            format!("permission denied: {} {NOT_EXECUTABLE}: {why}", file.escape_debug()),
        )
    };
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Error::new(Class::NotFound, exec_of(name), NOT_FOUND));
        }
        Err(error) => return Err(refused(&error.to_string())),
    };
    if metadata.is_dir() {
        return Err(refused("it is a directory"));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(refused("set its x permission in the image"));
    }
    // Not for this user, or not on this mount.
    nix::unistd::access(file, AccessFlags::X_OK).map_err(|errno| refused(errno.desc()))
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
        let error = |name, path| locate(name, path).unwrap_err();
        assert_eq!(error("/nonexistent", "").class, Class::NotFound);
        assert!(error("/nonexistent", "").to_string().contains(NOT_FOUND));
        assert!(error("nonexistent", "/bin").to_string().contains("not found in $PATH"));
        assert!(error("/etc/passwd", "").to_string().contains("x permission"));
        assert!(error("/etc", "").to_string().contains("directory"));
        assert_eq!(error("/etc", "").class, Class::Invalid);
    }
}
