//! The kernel's settings that belong to the container's namespaces. Others are the node's, and are refused.
//! Source: runc `configs/validate`, `sysctl`; namespaces(7).

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::error::{Class, Error, Named, Result};
use crate::namespaces::Namespaces;
use crate::root::tree::Tree;

/// Settings of an IPC namespace.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Refuses settings that are not the container's own.
pub fn check(sysctls: Option<&HashMap<String, String>>, namespaces: &Namespaces) -> Result<()> {
    for name in sysctls.into_iter().flat_map(HashMap::keys) {
        let path = slashed(name);
        // One that climbs would be another one than it is taken for.
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
            return Err(refused(name, "it is not the name of a setting"));
        }
        let plain = path.replace('/', ".");
        let needed = if IPC.contains(&plain.as_str()) || plain.starts_with("fs.mqueue.") {
            CloneFlags::CLONE_NEWIPC
        } else if plain.starts_with("net.") {
            CloneFlags::CLONE_NEWNET
        } else if plain == "kernel.domainname" || plain == "kernel.hostname" {
            CloneFlags::CLONE_NEWUTS
        } else if plain.starts_with("user.") {
            CloneFlags::CLONE_NEWUSER
        } else {
            return Err(refused(name, "it is not of any namespace, so it is the node's"));
        };
        if plain == "kernel.hostname" {
            return Err(refused(name, "it conflicts with the spec's hostname: use that"));
        }
        let has = match needed {
            CloneFlags::CLONE_NEWUSER => !matches!(namespaces.user, crate::namespaces::UserNamespace::Host),
            flag => namespaces.has(flag),
        };
        if !has {
            let why = format!(
                "the container shares the host's {} namespace",
                crate::namespaces::name_of(needed)
            );
            return Err(refused(name, &why));
        }
    }
    Ok(())
}

/// Writes them through the container's own `/proc`.
pub fn set(sysctls: Option<&HashMap<String, String>>, tree: &Tree) -> Result<()> {
    for (name, value) in sysctls.into_iter().flatten() {
        let what = || format!("set sysctl {} to \"{}\"", name.escape_debug(), value.escape_debug());
        let path = Path::new("/proc/sys").join(slashed(name));
        let file = tree.open(&path, OFlag::O_WRONLY).asked(what)?;
        if fstatfs(&file).host(what)?.filesystem_type() != PROC_SUPER_MAGIC {
            return Err(Error::new(Class::Invalid, what(), "the container's /proc is no proc"));
        }
        File::from(file).write_all(value.as_bytes()).asked(what)?;
    }
    Ok(())
}

fn refused(name: &str, why: &str) -> Error {
    Error::invalid(format!("sysctl {}", name.escape_debug()), why)
}

/// A name as a path below `/proc/sys`. With a slash first it is one; with a dot first, dots and slashes change places:
/// `net.ipv4.conf.eth0/1.forwarding`. Source: sysctl(8).
fn slashed(name: &str) -> String {
    match name.find(['.', '/']).map(|at| &name[at..=at]) {
        Some("/") => name.to_owned(),
        _ => swapped(name),
    }
}

fn swapped(name: &str) -> String {
    let swap = |c: char| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(kinds: &[&str]) -> Namespaces {
        let kinds: Vec<_> = kinds.iter().map(|kind| serde_json::json!({"type": kind})).collect();
        Namespaces::of(&serde_json::from_value(serde_json::json!({"namespaces": kinds})).unwrap()).unwrap()
    }

    fn allowed(name: &str, kinds: &[&str]) -> bool {
        check(
            Some(&HashMap::from([(name.to_owned(), "1".to_owned())])),
            &namespaces(kinds),
        )
        .is_ok()
    }

    #[test]
    fn only_settings_of_the_containers_own_namespaces_are_set() {
        assert!(allowed("net.ipv4.ip_forward", &["mount", "network"]));
        assert!(allowed("net/ipv4/conf/eth0.1/forwarding", &["mount", "network"]));
        assert!(!allowed("net.ipv4.ip_forward", &["mount"]));
        assert!(allowed("kernel.shmmax", &["mount", "ipc"]) && allowed("fs.mqueue.msg_max", &["mount", "ipc"]));
        for node in [
            "kernel.panic",
            "vm.swappiness",
            "kernel.hostname",
            "fs/../net",
            "x",
            "net/../vm/swappiness",
            "net.//.vm.swappiness",
            "net/./../vm/swappiness",
            "/net/ipv4/ip_forward",
            "net//ipv4",
            "",
        ] {
            assert!(!allowed(node, &["mount", "ipc", "network", "uts"]), "{node}");
        }
    }

    #[test]
    fn names_are_written_with_dots_or_with_slashes() {
        assert_eq!(
            slashed("net.ipv4.conf.eth0/1.forwarding"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
        assert_eq!(
            slashed("net/ipv4/conf/eth0.1/forwarding"),
            "net/ipv4/conf/eth0.1/forwarding"
        );
    }

    proptest::proptest! {
        #[test]
        fn a_setting_that_is_allowed_lies_where_its_name_says(name in "(net|kernel|vm|fs|\\.|/|\\.\\.|shmmax|a){1,8}") {
            if allowed(&name, &["mount", "ipc", "network"]) {
                let path = slashed(&name);
                assert!(Path::new(&path).components().all(|part| matches!(part, std::path::Component::Normal(_))), "{name}");
                let own = ["net/", "kernel/shm", "kernel/msg", "kernel/sem", "fs/mqueue/"];
                assert!(own.iter().any(|prefix| path.starts_with(prefix)), "{name}");
            }
        }
    }
}
