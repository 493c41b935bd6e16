//! The way into a running container: its cgroups and its namespaces.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::getppid;

use crate::error::{Class, Error, Named, Result, shown};
use crate::namespaces::{Return, name_of};

/// Namespaces by their names in /proc, in the order of joining: the mount namespace late, because paths change their
/// meaning with it, the user namespace last, because it takes away the power over all others. Source: namespaces(7).
const NAMESPACES: [(&str, CloneFlags); 8] = [
    ("time", CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("user", CloneFlags::CLONE_NEWUSER),
];

/// Opened while nothing is entered yet.
pub struct Entrance {
    namespaces: Vec<(CloneFlags, OwnedFd)>,
    /// `cgroup.procs` of each hierarchy in which the container is elsewhere than the caller.
    cgroups: Vec<(PathBuf, File)>,
}

impl Entrance {
    /// Opens that of the container whose first process is `init`, a child of the caller's parent.
    ///
    /// The process may be ending meanwhile. From the first moment of that on the kernel says `/` for its cgroups of
    /// version 1, and some time later it has no namespaces: so after the cgroups have been looked up it is made sure that
    /// it was not ending by then.
    pub fn open(init: i32) -> Result<Self> {
        // What is opened below this descriptor is of this very process, even if its id is given to another.
        let dir = File::open(Path::new("/proc").join(init.to_string())).map_err(|_| gone())?;
        let file =
            |name: &str| openat(dir.as_fd(), name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map(File::from);
        let read = |name: &str| -> std::io::Result<String> {
            let mut text = String::new();
            file(name)?.read_to_string(&mut text)?;
            Ok(text)
        };
        if !is_ours(&read("stat").map_err(|_| gone())?) {
            return Err(gone());
        }
        let what = || "tell the container's cgroups".to_owned();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").host(what)?;
        let own = std::fs::read_to_string("/proc/self/cgroup").host(what)?;
        let mut cgroups = Vec::new();
        let theirs = read("cgroup").map_err(|_| gone())?;
        if is_ending(&read("stat").map_err(|_| gone())?) {
            return Err(gone());
        }
        for path in procs_files(&mounts, &own, &theirs)? {
            let file = File::options().write(true).open(&path);
            cgroups.push((path.clone(), file.host(|| format!("open {}", shown(&path)))?));
        }
        let mut namespaces = Vec::new();
        for (name, flag) in NAMESPACES {
            let name = format!("ns/{name}");
            let own = match std::fs::metadata(Path::new("/proc/self").join(&name)) {
                Ok(own) => own,
                // A kernel without namespaces of this kind.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).host(|| format!("look at {name}")),
            };
            let namespace = file(&name).map_err(|_| gone())?;
            let theirs = namespace.metadata().map_err(|_| gone())?;
            if (theirs.dev(), theirs.ino()) != (own.dev(), own.ino()) {
                namespaces.push((flag, namespace.into()));
            } else if flag == CloneFlags::CLONE_NEWNS {
                return Err(Error::new(
                    Class::Precondition,
                    "container",
                    "it has no mount namespace of its own, so that what is executed would see the node's files",
                ));
            }
        }
        Ok(Self { namespaces, cgroups })
    }

    /// Joins what only a child comes into: the PID namespace, and the time namespace. Returns what brings the caller's later
    /// children back.
    pub fn enter_for_children(&mut self) -> Result<Return> {
        let mut back = Return::empty();
        let for_children = |flag: CloneFlags| flag == CloneFlags::CLONE_NEWPID || flag.bits() == libc::CLONE_NEWTIME;
        for (flag, namespace) in self.namespaces.iter().filter(|(flag, _)| for_children(*flag)) {
            back.remember(*flag)?;
            enter(*flag, namespace)?;
        }
        self.namespaces.retain(|(flag, _)| !for_children(*flag));
        Ok(back)
    }

    /// Joins the cgroups, which is done first so that whatever follows is the container's cost.
    pub fn enter_cgroups(&mut self) -> Result<()> {
        for (path, mut file) in self.cgroups.drain(..) {
            // 0 is the process that writes.
            file.write_all(b"0").host(|| format!("enter cgroup {}", shown(&path)))?;
        }
        Ok(())
    }

    /// Joins the other namespaces. Returns whether the users are others than before.
    pub fn enter_namespaces(self) -> Result<bool> {
        for (flag, namespace) in &self.namespaces {
            enter(*flag, namespace)?;
        }
        Ok(self
            .namespaces
            .iter()
            .any(|(flag, _)| *flag == CloneFlags::CLONE_NEWUSER))
    }
}

fn gone() -> Error {
    Error::new(
        Class::Precondition,
        "container",
        "it is not running: its first process has ended",
    )
}

fn enter(flag: CloneFlags, namespace: &OwnedFd) -> Result<()> {
    setns(namespace.as_fd(), flag).host(|| format!("enter the {} namespace of the container", name_of(flag)))
}

/// Whether the process is a child of the zygote, the caller's parent; or of a worker of it that has not ended yet.
fn is_ours(stat: &str) -> bool {
    let zygote = Some(getppid().as_raw());
    parent(stat).is_some_and(|its| {
        let above = || std::fs::read_to_string(format!("/proc/{its}/stat")).ok();
        Some(its) == zygote || above().and_then(|stat| parent(&stat)) == zygote
    })
}

/// Whether the kernel is at the end of the process. Source: proc_pid_stat(5), field 9; `PF_EXITING` of
/// `include/linux/sched.h`; `proc_cgroup_show` of `kernel/cgroup/cgroup.c`.
fn is_ending(stat: &str) -> bool {
    const EXITING: u64 = 0x4;
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let flags = fields.and_then(|fields| fields.split_whitespace().nth(6)?.parse::<u64>().ok());
    flags.is_none_or(|flags| flags & EXITING != 0)
}

/// Parent's id in `/proc/PID/stat`; the name in parentheses may hold anything.
fn parent(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// `cgroup.procs` of the cgroups in `theirs` that are not in `own` (both `/proc/PID/cgroup`).
/// Source: cgroups(7), proc_pid_mountinfo(5).
fn procs_files(mounts: &str, own: &str, theirs: &str) -> Result<Vec<PathBuf>> {
    let own: Vec<&str> = own.lines().collect();
    let other = theirs.lines().filter(|line| !own.contains(line));
    other
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let mut places = mounts
                .lines()
                .filter_map(|mount| hierarchy(mount, controllers))
                .peekable();
            // A hierarchy that is not mounted cannot be entered, and limits nothing that could be.
            places.peek()?;
            // It may be mounted several times, and in parts.
            let place = places.find_map(|(root, point)| Some(point.join(Path::new(path).strip_prefix(root).ok()?)));
            let place = place.ok_or_else(|| {
                Error::new(
                    Class::Internal,
                    format!("enter cgroup {}", path.escape_debug()),
                    "it is in none of the mounts of its hierarchy that this node's containerd sees",
                )
            });
            Some(place.map(|place| place.join("cgroup.procs")))
        })
        .collect()
}

/// Root and mount point, if the line is that of the hierarchy with these controllers (none: version 2).
fn hierarchy(mount: &str, controllers: &str) -> Option<(PathBuf, PathBuf)> {
    let (place, kind) = mount.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (kind, options) = (kind.next()?, kind.nth(1)?);
    let mounted: Vec<&str> = options.split(',').collect();
    let fits = match kind {
        "cgroup2" => controllers.is_empty(),
        "cgroup" => !controllers.is_empty() && controllers.split(',').all(|name| mounted.contains(&name)),
        _ => false,
    };
    fits.then(|| (unescaped(root), unescaped(point)))
}

/// A path of mountinfo, where blanks are written as `\\040`.
fn unescaped(path: &str) -> PathBuf {
    let mut plain = path.to_owned();
    for (code, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(code, character);
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_the_container_is_elsewhere_in_is_joined() {
        let mounts = "\
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 /docker /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let own = "4:memory:/docker/x\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/";
        let theirs = "4:memory:/docker/pod/c\n2:cpu,cpuacct:/pod/c\n1:name=systemd:/\n0::/pod/c";
        let expected = ["memory/pod/c", "cpu,cpuacct/pod/c", "unified/pod/c"]
            .map(|path| PathBuf::from(format!("/sys/fs/cgroup/{path}/cgroup.procs")));
        assert_eq!(procs_files(mounts, own, theirs).unwrap(), expected);
        assert!(procs_files(mounts, own, own).unwrap().is_empty());
    }

    #[test]
    fn a_hierarchy_that_is_mounted_in_parts_is_joined_where_the_container_is_or_not_at_all() {
        let mounts = "\
32 30 0:28 /other /mnt/a\\040part rw - cgroup2 cgroup2 rw
33 30 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let files = |theirs| procs_files(mounts, "0::/own", theirs);
        assert_eq!(
            files("0::/pod/c").unwrap(),
            [Path::new("/sys/fs/cgroup/pod/c/cgroup.procs")]
        );
        assert_eq!(files("0::/other/c").unwrap(), [Path::new("/mnt/a part/c/cgroup.procs")]);
        let part = mounts.lines().next().unwrap();
        let error = procs_files(part, "0::/own", "0::/pod/c").unwrap_err();
        assert!(error.to_string().contains("/pod/c"), "{error}");
    }

    #[test]
    fn a_process_that_is_ending_is_known_by_its_flags() {
        let stat = |flags: u32| format!("7 (a) b) S 42 7 7 0 -1 {flags} 0 0");
        assert!(!is_ending(&stat(0x0040_0100)));
        assert!(is_ending(&stat(0x0040_0104)));
        assert!(is_ending(""));
    }

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent("7 (a) b (c)) S 42 7 7"), Some(42));
    }

    #[test]
    fn a_process_that_is_not_the_parents_child_is_no_way_in() {
        let error = Entrance::open(1).err().unwrap();
        assert_eq!(error.class, Class::Precondition);
    }
}
