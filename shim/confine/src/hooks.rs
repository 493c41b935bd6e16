//! Hooks: programs of the node's admin that run at fixed moments of a container's life, with its state on standard input.
//! Source: OCI runtime spec, config.md, "POSIX-platform Hooks"; runtime.md, "State".

use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{Hook, Spec};

use crate::error::{Class, Error, Result, shown};

/// How often it is looked whether a hook with a time limit has ended.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of a hook's output that go into the error.
const MAX_OUTPUT: u64 = 1024;

/// What a hook is told of the container.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    oci_version: String,
    id: String,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<std::collections::HashMap<String, String>>,
}

impl State {
    /// The state of a container; `status` is one of the specification's words.
    pub fn new(spec: &Spec, id: &str, bundle: &Path, status: &str, pid: Option<i32>) -> Self {
        Self {
            oci_version: spec.version().clone(),
            id: id.to_owned(),
            status: status.to_owned(),
            pid,
            bundle: bundle.display().to_string(),
            annotations: spec.annotations().clone(),
        }
    }

    /// The same with another status.
    pub fn with_status(self, status: &str) -> Self {
        let status = status.to_owned();
        Self { status, ..self }
    }
}

/// Runs the hooks in their order, up to the first that fails. `kind` is the list's name in the spec.
pub fn run(kind: &str, hooks: Option<&Vec<Hook>>, state: &State) -> Result<()> {
    for hook in hooks.into_iter().flatten() {
        run_one(kind, hook, state)?;
    }
    Ok(())
}

fn run_one(kind: &str, hook: &Hook, state: &State) -> Result<()> {
    let name = || format!("{kind} hook {}", shown(hook.path()));
    if !hook.path().is_absolute() {
        return Err(Error::invalid(name(), "its path is not absolute"));
    }
    let failed = |why: String| Error::new(Class::Internal, name(), why);
    // Not a pipe, which would have to be read while it is waited.
    let said = memfd_create(c"hook", MFdFlags::MFD_CLOEXEC).map_err(|errno| failed(errno.to_string()))?;
    // Nor this, which a hook need not read.
    let told = serde_json::to_vec(state).map_err(|error| failed(error.to_string()))?;
    let told = in_memory(&told).map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new(hook.path());
    if let Some([own_name, args @ ..]) = hook.args().as_deref() {
        command.arg0(own_name).args(args);
    }
    // Those of the container's namespaces may not find it there.
    if !matches!(kind, "createContainer" | "startContainer") {
        command.current_dir(&state.bundle);
    }
    let env = hook.env().as_deref().unwrap_or_default();
    command
        .env_clear()
        .envs(env.iter().filter_map(|variable| variable.split_once('=')))
        .stdin(told)
        .stdout(Stdio::null())
        .stderr(said.try_clone().map_err(|error| failed(error.to_string()))?)
        .process_group(0);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let status = wait(&mut child, hook.timeout()).map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    let mut said = std::fs::File::from(said);
    let _ = said
        .rewind()
        .and_then(|()| said.take(MAX_OUTPUT).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    Err(failed(match text.trim() {
        "" => format!("it ended with {status}"),
        text => format!("it ended with {status}: {}", text.escape_debug()),
    }))
}

fn in_memory(bytes: &[u8]) -> std::io::Result<std::fs::File> {
    let mut file = std::fs::File::from(memfd_create(c"state", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn wait(child: &mut Child, timeout: Option<i64>) -> std::result::Result<std::process::ExitStatus, String> {
    let Some(seconds) = timeout
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
    else {
        return child.wait().map_err(|error| error.to_string());
    };
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Ok(None) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    // With what it has started.
    let group = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    let _ = child.wait();
    Err(format!(
        "it did not end within its timeout of {seconds} s and was killed"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_json(hook: serde_json::Value) -> Result<()> {
        let hook: Hook = serde_json::from_value(hook).unwrap();
        let state = State::new(&Spec::default(), "c", Path::new("/"), "creating", Some(7));
        run("createRuntime", Some(&vec![hook]), &state)
    }

    #[test]
    fn a_hook_is_told_the_state_and_has_its_own_environment_only() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("told");
        let script = format!("/usr/bin/cat > {0}; echo; echo \"$A $HOME $1\" >> {0}", told.display());
        run_json(serde_json::json!({
            "path": "/bin/sh", "args": ["sh", "-c", script, "-", "x"], "env": ["A=b"]}))
        .unwrap();
        let told = std::fs::read_to_string(told).unwrap();
        assert!(
            told.contains(r#""status":"creating""#) && told.contains(r#""pid":7"#),
            "{told}"
        );
        assert!(told.ends_with("b  x\n"), "{told}");
    }

    #[test]
    fn a_hook_that_fails_or_takes_too_long_is_named_with_the_reason() {
        let error = run_json(serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no >&2; exit 3"]}));
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("createRuntime hook /bin/sh") && text.contains('3') && text.contains("no"),
            "{text}"
        );
        let slow = serde_json::json!({"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1});
        assert!(run_json(slow.clone()).unwrap_err().to_string().contains("1 s"));
        // Nor does it matter that it does not read what it is told.
        let mut long = Spec::default();
        long.set_annotations(Some([("a".to_owned(), "x".repeat(1 << 20))].into()));
        let state = State::new(&long, "c", Path::new("/"), "creating", Some(7));
        let error = run(
            "createRuntime",
            Some(&vec![serde_json::from_value(slow).unwrap()]),
            &state,
        );
        assert!(error.unwrap_err().to_string().contains("1 s"));
        assert!(
            run_json(serde_json::json!({"path": "sh"}))
                .unwrap_err()
                .to_string()
                .contains("absolute")
        );
    }
}
