//! HOME of a process that was given none. Read here and not by libc, whose name service would load what the
//! container's `nsswitch.conf` names.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// Longest user database that is looked through.
const MAX_PASSWD_BYTES: u64 = 4 * 1024 * 1024;
/// Home of a user whom nobody knows. Source: runc.
const NO_HOME: &str = "/";

/// Adds HOME to the environment, if it is not there or empty, from the container's `/etc/passwd`.
pub fn ensure(env: &mut Vec<String>, uid: u32) {
    let given = |variable: &String| variable.strip_prefix("HOME=").is_some_and(|home| !home.is_empty());
    if env.iter().any(given) {
        return;
    }
    let mut passwd = String::new();
    // Any text will do that can be read, but nothing that would have to be waited for.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/etc/passwd");
    let _ = file.and_then(|file| file.take(MAX_PASSWD_BYTES).read_to_string(&mut passwd));
    env.retain(|variable| !variable.starts_with("HOME="));
    env.push(format!("HOME={}", of(uid, &passwd)));
}

/// Source: passwd(5): `name:password:uid:gid:comment:directory:shell`.
fn of(uid: u32, passwd: &str) -> &str {
    let home = passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        let its: u32 = fields.next()?.parse().ok()?;
        (its == uid).then(|| fields.nth(2).unwrap_or_default())
    });
    home.unwrap_or(NO_HOME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_that_of_the_user_and_else_the_root() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nodd\nwww:x:33:33::/srv:/bin/false\nnone:x:7:7:::\n";
        assert_eq!(of(0, passwd), "/root");
        assert_eq!(of(33, passwd), "/srv");
        assert_eq!(of(7, passwd), "");
        assert_eq!(of(1000, passwd), "/");
    }

    #[test]
    fn a_home_that_was_given_is_kept_where_it_is() {
        let mut env = vec!["HOME=/mine".to_owned(), "A=b".to_owned()];
        ensure(&mut env, 0);
        assert_eq!(env, ["HOME=/mine", "A=b"]);
    }
}
