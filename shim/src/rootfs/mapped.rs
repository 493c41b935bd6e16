//! Root file systems whose owners are mapped into a container's user namespace: containerd 2.x says so by options
//! `uidmap=` and `gidmap=`, which the kernel does not know (its own `mount` package interprets them as well).
//!
//! The image's layers are mounted with ids mapped, and the overlay stands on those. They are attached in a mount
//! namespace that only one thread is in and that ends with it: the host sees the finished overlay only.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use containerd_shim_protos::types::mount::Mount;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::Parsed;
use crate::fault::{Fault, Result};
use tandem_confine::idmap::Mappings;
use tandem_confine::sys::mount::{self as mountfd, Change};

/// Takes the mappings out of a mount's options.
pub fn split(options: &[String]) -> Result<(Vec<String>, Option<Mappings>)> {
    let value = |key: &str| options.iter().find_map(|option| option.strip_prefix(key));
    let mappings = match (value("uidmap="), value("gidmap=")) {
        (Some(users), Some(groups)) => Some(Mappings::parse(users, groups)?),
        (None, None) => None,
        _ => {
            return Err(Fault::invalid(
                "a snapshot mount has uidmap without gidmap, or the reverse",
            ));
        }
    };
    let ours = |option: &&String| !option.starts_with("uidmap=") && !option.starts_with("gidmap=");
    Ok((options.iter().filter(ours).cloned().collect(), mappings))
}

/// Mounts `each` on `target` with its ids mapped.
pub fn mount_mapped(each: &Mount, parsed: &Parsed, mappings: &Mappings, target: &Path) -> Result<()> {
    let namespace = mappings.user_namespace()?;
    let fault = |errno: Errno| {
        Fault::internal(format!(
            "cannot mount {} ({}) with ids mapped on {}: {errno}; {}",
            each.source,
            each.type_,
            target.display(),
            match errno {
                Errno::EAGAIN | Errno::ENOMEM => "the node is out of processes or memory",
                _ => "its file system must allow it (ext4, xfs, btrfs)",
            }
        ))
    };
    let mounted = if parsed.flags.contains(MsFlags::MS_BIND) {
        bind(Path::new(&each.source), parsed, &namespace)
    } else if each.type_ == "overlay" {
        super::on_a_thread(|| overlay(parsed, &namespace, target))
    } else {
        return Err(Fault::unimplemented(format!(
            "snapshot mounts of type \"{}\" cannot have ids mapped: use the overlayfs snapshotter",
            each.type_.escape_debug()
        )));
    };
    mounted
        .and_then(|mounted| mountfd::attach(mounted.as_fd(), target))
        .map_err(fault)
}

fn bind(source: &Path, parsed: &Parsed, namespace: &OwnedFd) -> nix::Result<OwnedFd> {
    let recursive = parsed.flags.contains(MsFlags::MS_REC);
    let copy = map(source, recursive, namespace)?;
    if parsed.flags.contains(MsFlags::MS_RDONLY) {
        let read_only = Change {
            set: libc::MOUNT_ATTR_RDONLY,
            ..Change::default()
        };
        mountfd::change(copy.as_fd(), &read_only)?;
    }
    Ok(copy)
}

fn map(source: &Path, recursive: bool, namespace: &OwnedFd) -> nix::Result<OwnedFd> {
    let copy = mountfd::copy(source, recursive)?;
    let change = Change {
        ids: Some(namespace.as_fd()),
        recursive,
        ..Change::default()
    };
    mountfd::change(copy.as_fd(), &change)?;
    Ok(copy)
}

/// Makes the overlay, attached nowhere; in a thread of its own, whose namespaces end with it.
fn overlay(parsed: &Parsed, namespace: &OwnedFd, scratch: &Path) -> nix::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
    mount(
        Some("tandem"),
        scratch,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0700"),
    )?;
    nix::unistd::chdir(scratch)?;
    let mut options = Vec::new();
    let mut count = 0;
    for option in parsed.data.split(',') {
        let Some(layers) = option.strip_prefix("lowerdir=") else {
            options.push(option.to_owned());
            continue;
        };
        let mut names = Vec::new();
        for layer in layers.split(':') {
            // Short names, for a page of options must do for all of them.
            let name = count.to_string();
            count += 1;
            nix::unistd::mkdir(Path::new(&name), nix::sys::stat::Mode::S_IRWXU)?;
            let copy = map(Path::new(layer), false, namespace)?;
            mountfd::attach(copy.as_fd(), Path::new(&name))?;
            names.push(name);
        }
        options.push(format!("lowerdir={}", names.join(":")));
    }
    let merged = Path::new("merged");
    nix::unistd::mkdir(merged, nix::sys::stat::Mode::S_IRWXU)?;
    mount(
        Some("overlay"),
        merged,
        Some("overlay"),
        parsed.flags,
        Some(options.join(",").as_str()),
    )?;
    mountfd::copy(merged, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn on_disk() -> tempfile::TempDir {
        tempfile::tempdir_in("/var/tmp").unwrap()
    }

    #[test]
    fn mappings_are_taken_out_of_the_options() {
        let options = ["uidmap=0:9:1", "ro", "gidmap=0:8:1"].map(String::from);
        let (rest, mappings) = split(&options).unwrap();
        assert_eq!(rest, ["ro"]);
        assert_eq!(mappings, Some(Mappings::parse("0:9:1", "0:8:1").unwrap()));
        assert!(split(&options[..2]).is_err());
    }

    #[test]
    fn files_of_layers_have_the_mapped_owner_and_the_host_sees_one_mount() {
        let dir = on_disk();
        let path = |name: &str| dir.path().join(name);
        for name in ["a", "b", "upper", "work", "rootfs"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::write(path("a/f"), "x").unwrap();
        std::fs::write(path("b/g"), "x").unwrap();
        let layers = format!("lowerdir={}:{}", path("a").display(), path("b").display());
        let upper = format!("upperdir={}", path("upper").display());
        let work = format!("workdir={}", path("work").display());
        let each = Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            options: vec![
                layers,
                upper,
                work,
                "uidmap=0:70000:10".into(),
                "gidmap=0:80000:10".into(),
            ],
            ..Default::default()
        };
        let target = path("rootfs");
        super::super::mount_all(&[each], &target).unwrap();
        let owner = |name: &str| std::fs::metadata(target.join(name)).map(|data| (data.uid(), data.gid()));
        let (f, g) = (owner("f"), owner("g"));
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = table.matches(dir.path().to_str().unwrap()).count();
        super::super::unmount_all(&target).unwrap();
        assert_eq!(f.unwrap(), (70000, 80000));
        assert_eq!(g.unwrap(), (70000, 80000));
        assert!(mounts > 0 && !table.contains("/merged"), "{table}");
    }
}
