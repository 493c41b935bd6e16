//! Hooks that belong in the host's mount namespace, while the container is created from another one: the hook's
//! command becomes this binary, which goes back and then executes what was meant.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::Hook;

use crate::binary;
use crate::fault::{Fault, Result};

/// First argument by which the binary knows that it is to run a hook.
pub const NAME: &str = "tandem-hook";

/// Makes `hook` return to the mount namespace of `host_process` first.
pub fn wrap(hook: &mut Hook, host_process: i32) {
    let path = hook.path().display().to_string();
    let args = hook.args().clone().filter(|args| !args.is_empty());
    let args = args.unwrap_or_else(|| vec![path.clone()]);
    let mut wrapped = vec![NAME.to_owned(), format!("/proc/{host_process}/ns/mnt"), path];
    wrapped.extend(args);
    hook.set_args(Some(wrapped));
    // The hook starts as a fork of the zygote's.
    hook.set_path(binary::RUNNING.into());
}

/// Runs the hook that [`wrap`] has wrapped. Returns only when that fails.
pub fn run(args: impl Iterator<Item = std::ffi::OsString>) -> Result<()> {
    let fault = |what: &str, why: String| Fault::internal(format!("hook: cannot {what}: {why}"));
    let args: Vec<CString> = args
        .map(|arg| CString::new(arg.into_vec()))
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| fault("take its arguments", error.to_string()))?;
    let [namespace, path, argv @ ..] = args.as_slice() else {
        return Err(fault("run", "it is not for people to call".into()));
    };
    let namespace = std::ffi::OsStr::from_bytes(namespace.as_bytes());
    File::open(namespace)
        .and_then(|namespace| setns(namespace, CloneFlags::CLONE_NEWNS).map_err(Into::into))
        .map_err(|error| fault("return to the host's mounts", error.to_string()))?;
    match nix::unistd::execv(path, argv) {
        Ok(never) => match never {},
        Err(errno) => Err(fault(&format!("execute {}", path.to_string_lossy()), errno.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_hook_keeps_its_arguments_with_or_without_a_name() {
        let mut hook = Hook::default();
        hook.set_path("/bin/h".into())
            .set_args(Some(vec!["h".into(), "x".into()]));
        wrap(&mut hook, 7);
        assert_eq!(hook.path().to_str(), Some("/proc/self/exe"));
        let args = ["tandem-hook", "/proc/7/ns/mnt", "/bin/h", "h", "x"].map(String::from);
        assert_eq!(hook.args().as_deref().unwrap(), args);

        let mut bare = Hook::default();
        bare.set_path("/bin/h".into()).set_args(None);
        wrap(&mut bare, 7);
        assert_eq!(bare.args().as_deref().unwrap()[3..], ["/bin/h".to_owned()]);
    }
}
