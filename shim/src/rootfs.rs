//! Mounting a container's root file system from the snapshot mounts that come with Create, and taking it
//! away again.

mod mapped;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use containerd_shim_protos::types::mount::Mount;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use tandem_confine::root::tree::Tree;

use crate::fault::{Fault, Result};

/// `mount(2)` copies one page of options at most.
const PAGE: usize = 4096;
/// A root file system stacked from more mounts than this is not ours to unwind.
const MAX_STACKED: usize = 64;

/// Mounts `mounts` in order on `target`, creating the directory. Undoes them all if one fails.
pub fn mount_all(mounts: &[Mount], target: &Path) -> Result<()> {
    std::fs::create_dir_all(target)
        .map_err(|error| Fault::internal(format!("cannot create {}: {error}", target.display())))?;
    for each in mounts {
        if let Err(fault) = mount_one(each, target) {
            unmount_all(target)?;
            return Err(fault);
        }
    }
    Ok(())
}

/// Unmounts everything stacked on `target`; nothing there is success.
pub fn unmount_all(target: &Path) -> Result<()> {
    for _ in 0..MAX_STACKED {
        match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // EINVAL: not a mount point (any more).
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => {
                return Err(Fault::internal(format!("cannot unmount {}: {errno}", target.display())));
            }
        }
    }
    Err(Fault::internal(format!(
        "more than {MAX_STACKED} mounts are stacked on {}",
        target.display()
    )))
}

fn mount_one(each: &Mount, rootfs: &Path) -> Result<()> {
    let place = Place::of(rootfs, &each.target)?;
    let target = place.path();
    let (options, mappings) = mapped::split(&each.options)?;
    let parsed = Parsed::new(&options)?;
    if let Some(mappings) = mappings {
        return mapped::mount_mapped(each, &parsed, &mappings, &target);
    }
    let fault = |errno: Errno| {
        Fault::internal(format!(
            "cannot mount {} ({}) on {}: {errno}",
            each.source,
            each.type_,
            target.display()
        ))
    };
    if parsed.data.len() >= PAGE {
        return mount_compacted(each, &parsed, &target).map_err(fault);
    }
    mount_raw(&each.source, &target, &each.type_, &parsed).map_err(fault)
}

fn mount_raw(source: &str, target: &Path, fstype: &str, parsed: &Parsed) -> nix::Result<()> {
    let data = (!parsed.data.is_empty()).then_some(parsed.data.as_str());
    mount(Some(source), target, Some(fstype), parsed.flags, data)?;
    // The kernel ignores MS_RDONLY on the first bind mount: a read-only bind needs a second call.
    if parsed.flags.contains(MsFlags::MS_BIND | MsFlags::MS_RDONLY) {
        let flags = parsed.flags | MsFlags::MS_REMOUNT;
        mount(Some(source), target, Some(fstype), flags, None::<&str>)?;
    }
    Ok(())
}

/// Mounts an overlay whose options do not fit a page: the layers' common directory becomes the working
/// directory and the layers are named relative to it. In a thread with a working directory of its own
/// (`CLONE_FS` undone), because the shim's must not change under the others.
fn mount_compacted(each: &Mount, parsed: &Parsed, target: &Path) -> nix::Result<()> {
    let Some((dir, data)) = compact_lowerdirs(&parsed.data) else {
        return Err(Errno::E2BIG);
    };
    let short = Parsed {
        flags: parsed.flags,
        data,
    };
    on_a_thread(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
        nix::unistd::chdir(&dir)?;
        mount_raw(&each.source, target, &each.type_, &short)
    })
}

/// Does what changes a thread's working directory or namespaces, on one that ends with it.
fn on_a_thread<T: Send>(work: impl FnOnce() -> nix::Result<T> + Send) -> nix::Result<T> {
    std::thread::scope(|scope| {
        // Not `scope.spawn`, which panics where the node has no thread left.
        let thread = std::thread::Builder::new().spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Errno::try_from(error).unwrap_or(Errno::EAGAIN))?;
        thread.join().unwrap_or(Err(Errno::EIO))
    })
}

/// Splits `lowerdir=` into the directory all its layers are under and their names relative to it.
fn compact_lowerdirs(data: &str) -> Option<(PathBuf, String)> {
    let mut dir: Option<&Path> = None;
    for option in data.split(',') {
        let Some(layers) = option.strip_prefix("lowerdir=") else {
            continue;
        };
        for layer in layers.split(':').map(Path::new) {
            dir = Some(match dir {
                None => layer.parent()?,
                Some(mut common) => {
                    while !layer.starts_with(common) {
                        common = common.parent()?;
                    }
                    common
                }
            });
        }
    }
    let dir = dir?.to_owned();
    let relative = |layer: &str| -> Option<String> {
        let below = Path::new(layer).strip_prefix(&dir).ok()?.to_str()?;
        // The directory itself may be a layer; an empty name would be none.
        Some(if below.is_empty() { "." } else { below }.to_owned())
    };
    let options: Option<Vec<String>> = data
        .split(',')
        .map(|option| match option.strip_prefix("lowerdir=") {
            Some(layers) => {
                let layers: Option<Vec<String>> = layers.split(':').map(relative).collect();
                Some(format!("lowerdir={}", layers?.join(":")))
            }
            None => Some(option.to_owned()),
        })
        .collect();
    let data = options?.join(",");
    (data.len() < PAGE).then_some((dir, data))
}

/// Where one of the mounts goes: on the root file system, or at a path in it, which those before it have brought. That is an
/// image's, so its links are followed as if the root file system was `/`, and it is held by a descriptor.
enum Place {
    Root(PathBuf),
    Below(OwnedFd),
}

impl Place {
    fn of(rootfs: &Path, target: &str) -> Result<Self> {
        if target.trim_matches('/').is_empty() {
            return Ok(Self::Root(rootfs.to_owned()));
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let located =
            nix::fcntl::open(rootfs, flags, Mode::empty()).and_then(|root| Tree::new(root).locate(Path::new(target)));
        located.map(Self::Below).map_err(|errno| {
            Fault::invalid(format!(
                "mount target \"{}\" in the root file system: {errno}",
                target.escape_debug()
            ))
        })
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Root(path) => path.clone(),
            Self::Below(place) => format!("/proc/self/fd/{}", place.as_raw_fd()).into(),
        }
    }
}

struct Parsed {
    flags: MsFlags,
    data: String,
}

impl Parsed {
    fn new(options: &[String]) -> Result<Self> {
        let mut flags = MsFlags::empty();
        let mut data: Vec<&str> = Vec::new();
        for option in options {
            match option.as_str() {
                "defaults" | "rw" | "" => {}
                "ro" => flags.insert(MsFlags::MS_RDONLY),
                "bind" => flags.insert(MsFlags::MS_BIND),
                "rbind" => flags.insert(MsFlags::MS_BIND | MsFlags::MS_REC),
                "nosuid" => flags.insert(MsFlags::MS_NOSUID),
                "nodev" => flags.insert(MsFlags::MS_NODEV),
                "noexec" => flags.insert(MsFlags::MS_NOEXEC),
                "noatime" => flags.insert(MsFlags::MS_NOATIME),
                "nodiratime" => flags.insert(MsFlags::MS_NODIRATIME),
                "relatime" => flags.insert(MsFlags::MS_RELATIME),
                "strictatime" => flags.insert(MsFlags::MS_STRICTATIME),
                "sync" => flags.insert(MsFlags::MS_SYNCHRONOUS),
                "dirsync" => flags.insert(MsFlags::MS_DIRSYNC),
                "mand" => flags.insert(MsFlags::MS_MANDLOCK),
                "silent" => flags.insert(MsFlags::MS_SILENT),
                "loop" => {
                    return Err(Fault::unimplemented(
                        "snapshot mounts with option \"loop\" are not supported: use a snapshotter that mounts its own devices",
                    ));
                }
                other => data.push(other),
            }
        }
        Ok(Self {
            flags,
            data: data.join(","),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_flags_and_data() {
        let options = ["ro", "rbind", "lowerdir=/a:/b", "userxattr"].map(String::from);
        let parsed = Parsed::new(&options).unwrap();
        assert_eq!(parsed.flags, MsFlags::MS_RDONLY | MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(parsed.data, "lowerdir=/a:/b,userxattr");
    }

    #[test]
    fn a_target_is_below_the_rootfs_whatever_its_links_say() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("rootfs");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::os::unix::fs::symlink("/../../etc", root.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("out")).unwrap();
        assert_eq!(Place::of(&root, "/").unwrap().path(), root);
        for target in ["etc", "/etc", "link", "../../etc"] {
            let place = Place::of(&root, target).unwrap();
            assert_eq!(std::fs::read_link(place.path()).unwrap(), root.join("etc"), "{target}");
        }
        assert!(Place::of(&root, "out").is_err());
    }

    #[test]
    fn what_needs_a_thread_fails_where_there_is_none_and_does_not_panic() {
        crate::testing::without_threads(|| assert_eq!(on_a_thread(|| Ok(())), Err(Errno::EAGAIN)));
        assert_eq!(on_a_thread(|| Ok(7)), Ok(7));
        assert_eq!(
            on_a_thread(|| -> nix::Result<()> { panic!("on purpose") }),
            Err(Errno::EIO)
        );
    }

    proptest::proptest! {
        #[test]
        fn shortened_layers_are_the_same_layers(layers in proptest::collection::vec("(/[ab]{1,2}){1,4}", 1..6)) {
            let data = format!("workdir=/w,lowerdir={},upperdir=/u", layers.join(":"));
            if let Some((dir, short)) = compact_lowerdirs(&data) {
                let lower = short.split(',').find_map(|option| option.strip_prefix("lowerdir=")).unwrap();
                let again: Vec<_> = lower.split(':').map(|layer| dir.join(layer)).collect();
                assert_eq!(again, layers.iter().map(PathBuf::from).collect::<Vec<_>>());
                // An empty name would be the working directory itself, and end the list.
                assert!(lower.split(':').all(|layer| !layer.is_empty()), "{short}");
            }
        }
    }

    #[test]
    fn many_layers_fit_a_page_once_their_directory_is_left_out() {
        let base = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
        let layers: Vec<String> = (0..100).map(|n| format!("{base}/{n}/fs")).collect();
        let data = format!("workdir=/w,upperdir=/u,lowerdir={}", layers.join(":"));
        assert!(data.len() > PAGE);
        let (dir, short) = compact_lowerdirs(&data).unwrap();
        assert_eq!(dir, Path::new(base));
        assert!(
            short.starts_with("workdir=/w,upperdir=/u,lowerdir=0/fs:1/fs:"),
            "{short}"
        );
    }

    #[test]
    fn an_overlay_of_a_hundred_layers_is_mounted_and_unmounted() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let base = dir
            .path()
            .join("a-rather-long-directory-name-so-that-the-options-exceed-one-page");
        let mut layers = Vec::new();
        for n in 0..100 {
            let layer = base.join(n.to_string()).join("fs");
            std::fs::create_dir_all(&layer).unwrap();
            std::fs::write(layer.join(n.to_string()), "x").unwrap();
            layers.push(layer.to_str().unwrap().to_owned());
        }
        let mount = Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            options: vec![format!("lowerdir={}", layers.join(":"))],
            ..Default::default()
        };
        let target = dir.path().join("rootfs");
        mount_all(&[mount], &target).unwrap();
        let seen = std::fs::read_dir(&target).unwrap().count();
        unmount_all(&target).unwrap();
        assert_eq!(seen, 100);
        assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    }
}
