//! HOME of an executed process that was given none. Read here and not by libc, whose name service would load what the
//! container's `nsswitch.conf` names.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use oci_spec::runtime::Process;

/// Longest user database that is looked through.
const MAX_PASSWD_BYTES: u64 = 4 * 1024 * 1024;
/// Home of a user whom nobody knows. Source: runc.
const NO_HOME: &str = "/";

/// Adds HOME to the environment, if it is not there or empty, from the container's `/etc/passwd`.
pub fn ensure(process: &mut Process) {
    let mut env = process.env().clone().unwrap_or_default();
    if env
        .iter()
        .any(|var| var.strip_prefix("HOME=").is_some_and(|home| !home.is_empty()))
    {
        return;
    }
    let mut passwd = String::new();
    // Any text will do that can be read, but nothing that would have to be waited for.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/etc/passwd");
    let _ = file.and_then(|file| file.take(MAX_PASSWD_BYTES).read_to_string(&mut passwd));
    env.retain(|var| !var.starts_with("HOME="));
    env.push(format!("HOME={}", of(process.user().uid(), &passwd)));
    process.set_env(Some(env));
}

/// Source: passwd(5): `name:password:uid:gid:comment:directory:shell`.
fn of(uid: u32, passwd: &str) -> &str {
    let home = passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let its: u32 = fields.next()?.parse().ok()?;
        (its == uid).then(|| fields.nth(2)).flatten()
    });
    home.filter(|home| !home.is_empty()).unwrap_or(NO_HOME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_that_of_the_user_and_else_the_root() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nodd\nwww:x:33:33::/srv:/bin/false\nnone:x:7:7:::\n";
        assert_eq!(of(0, passwd), "/root");
        assert_eq!(of(33, passwd), "/srv");
        assert_eq!(of(7, passwd), "/");
        assert_eq!(of(1000, passwd), "/");
    }

    #[test]
    fn a_home_that_was_given_is_kept() {
        let mut process = Process::default();
        process.set_env(Some(vec!["HOME=/mine".into()]));
        ensure(&mut process);
        assert_eq!(process.env().as_deref(), Some(["HOME=/mine".to_owned()].as_slice()));
    }
}
