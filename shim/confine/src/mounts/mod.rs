//! The spec's mounts. Sources on the host are opened, copied and changed by the host's root before the container's first
//! process exists ([`prepare`]); that process attaches them in its own tree, and makes the file systems that belong to its
//! namespaces ([`attach`]).

mod below_proc;
mod cgroup;
mod copy_up;
mod fresh;
pub mod options;
mod target;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use oci_spec::runtime::Mount;

use crate::error::{Class, Error, Named, Result, shown, shown_source};
use crate::idmap::Mappings;
use crate::namespaces::UserNamespace;
use crate::root::tree::{Tree, is_directory};
use crate::sys::mount::{self, Change};
pub use cgroup::Hierarchies;
use options::{Attributes, Options};

/// A mount whose source is ready.
#[derive(Debug)]
pub struct Prepared {
    destination: PathBuf,
    kind: String,
    options: Options,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// A copy of a mount of the host, attached nowhere.
    Copy(OwnedFd),
    /// A file system to be made in the container's namespaces; the name it is shown with.
    Fresh(String),
    /// The container's own cgroups.
    Cgroups,
    /// What is mounted there already.
    There,
}

/// What all mounts have to know of the container.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Where relative sources start.
    pub bundle: &'a Path,
    /// Its user namespace.
    pub user: &'a UserNamespace,
    /// SELinux' label of its files, where SELinux is on.
    pub label: Option<&'a str>,
}

/// Opens and changes what the mounts need of the host.
pub fn prepare(mounts: &[Mount], around: &Surroundings) -> Result<Vec<Prepared>> {
    mounts.iter().map(|mount| prepare_one(mount, around)).collect()
}

fn prepare_one(mount: &Mount, around: &Surroundings) -> Result<Prepared> {
    // One that is relative is so to the root. Source: runc, for old specs.
    let destination = Path::new("/").join(mount.destination());
    let name = || format!("mount {}", shown(&destination));
    let kind = mount.typ().as_deref();
    let said = mount.options().as_deref().unwrap_or_default();
    let options = Options::parse(kind, said.iter().map(String::as_str)).map_err(|why| Error::invalid(name(), why))?;
    let source = match options.bind {
        _ if options.remount => Source::There,
        Some(below) => Source::Copy(copy(mount, below, &options, around)?),
        None if kind == Some("cgroup") || kind == Some("cgroup2") => Source::Cgroups,
        None => Source::Fresh(mount.source().as_ref().map_or_else(
            || kind.unwrap_or_default().to_owned(),
            |source| source.display().to_string(),
        )),
    };
    let is_proc = match &source {
        Source::Copy(copy) => fstatfs(copy.as_fd()).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC),
        _ => kind == Some("proc"),
    };
    below_proc::check_name(&destination, is_proc)?;
    Ok(Prepared {
        destination,
        kind: kind.unwrap_or_default().to_owned(),
        options,
        source,
    })
}

/// A copy of the mount at the source, with ids, propagation and attributes as they are asked for.
fn copy(spec: &Mount, below: bool, options: &Options, around: &Surroundings) -> Result<OwnedFd> {
    let source = spec.source().as_ref().map(|source| around.bundle.join(source));
    let name = |doing: &str| {
        format!(
            "mount {}: {doing} {}",
            shown(spec.destination()),
            shown_source(source.as_ref())
        )
    };
    let path = source
        .as_deref()
        .ok_or_else(|| Error::invalid(name("source"), "a bind mount needs one"))?;
    let copied = mount::copy(path, below).asked(|| name("source"))?;
    if let Some(namespace) = ids(spec, options, around)? {
        let change = Change {
            ids: Some(namespace.as_fd()),
            recursive: options.map_ids == Some(true),
            ..Change::default()
        };
        mount::change(copied.as_fd(), &change).map_err(|errno| match errno {
            Errno::EINVAL => Error::new(
                Class::Precondition,
                name("source"),
                "its file system cannot be mounted with ids mapped: use one that can (ext4, xfs, btrfs, tmpfs since Linux 6.3) or hostUsers: true",
            ),
            errno => Error::host(name("map the ids of"), errno),
        })?;
    }
    // What is mounted on the host later arrives, what the container mounts stays its own; unless the spec says otherwise.
    let shares = options.propagation.iter().any(|(kind, _)| *kind == libc::MS_SHARED);
    if !shares {
        propagate(copied.as_fd(), libc::MS_SLAVE, true).host(|| name("set the propagation of"))?;
    }
    for (kind, below) in &options.propagation {
        propagate(copied.as_fd(), *kind, *below).asked(|| name("set the propagation of"))?;
    }
    change(copied.as_fd(), options.attributes, options.recursive)
        .map_err(|errno| Error::kernel(Class::Invalid, name("set the options of"), errno))?;
    Ok(copied)
}

fn propagate(mount: impl AsFd, propagation: u64, recursive: bool) -> nix::Result<()> {
    let change = Change {
        propagation,
        recursive,
        ..Change::default()
    };
    mount::change(mount.as_fd(), &change)
}

/// Sets the attributes of a mount, and of those below it.
fn change(mount: impl AsFd, own: Attributes, below: Attributes) -> nix::Result<()> {
    for (Attributes { set, clear }, recursive) in [(own, false), (below, true)] {
        if set | clear != 0 {
            let change = Change {
                set,
                clear,
                recursive,
                ..Change::default()
            };
            mount::change(mount.as_fd(), &change)?;
        }
    }
    Ok(())
}

/// The user namespace by which the ids of a mount are to be mapped.
fn ids(spec: &Mount, options: &Options, around: &Surroundings) -> Result<Option<OwnedFd>> {
    let (users, groups) = (spec.uid_mappings().as_deref(), spec.gid_mappings().as_deref());
    let fault = |why: &str| Error::invalid(format!("mount {}", shown(spec.destination())), why);
    if let Some(mappings) = Mappings::of_spec(users, groups) {
        return mappings.user_namespace().map(Some);
    }
    if users.is_some_and(|m| !m.is_empty()) || groups.is_some_and(|m| !m.is_empty()) {
        return Err(fault("uidMappings and gidMappings must be given together"));
    }
    if options.map_ids.is_none() {
        return Ok(None);
    }
    match around.user {
        UserNamespace::New(mappings) => mappings.user_namespace().map(Some),
        UserNamespace::Joined(namespace) => {
            let copied = namespace.try_clone();
            copied
                .map(|file: File| Some(file.into()))
                .host(|| "duplicate a descriptor".into())
        }
        UserNamespace::Host => Err(fault("\"idmap\" needs mappings, of the mount or of the container")),
    }
}

/// Whether one of the mounts brings a directory of the host to `destination`.
pub fn binds(mounts: &[Prepared], destination: &str) -> bool {
    let is_it = |mount: &Prepared| {
        matches!(mount.source, Source::Copy(_))
            && mount.destination.components().eq(Path::new(destination).components())
    };
    mounts.iter().any(is_it)
}

/// Attaches the mounts in the container's tree, in the spec's order. Returns those that are to be read-only when all is
/// made in them.
pub fn attach(
    mounts: Vec<Prepared>,
    tree: &Tree,
    label: Option<&str>,
    cgroups: &Hierarchies,
) -> Result<Vec<(PathBuf, OwnedFd)>> {
    let mut late = Vec::new();
    for mount in mounts {
        late.extend(attach_one(mount, tree, label, cgroups)?);
    }
    Ok(late)
}

/// Makes mounts read-only that could not be so while the container's tree was made.
pub fn make_read_only(late: Vec<(PathBuf, OwnedFd)>) -> Result<()> {
    let read_only = Change {
        set: libc::MOUNT_ATTR_RDONLY,
        ..Change::default()
    };
    for (destination, mount) in late {
        mount::change(mount.as_fd(), &read_only).host(|| format!("make mount {} read-only", shown(&destination)))?;
    }
    Ok(())
}

fn attach_one(
    prepared: Prepared,
    tree: &Tree,
    label: Option<&str>,
    cgroups: &Hierarchies,
) -> Result<Option<(PathBuf, OwnedFd)>> {
    let Prepared {
        destination,
        kind,
        options,
        source,
    } = prepared;
    let name = || format!("mount {}", shown(&destination));
    let is_file = match &source {
        Source::Copy(copy) => !is_directory(copy).host(name)?,
        _ => false,
    };
    let covers = tree.locate(&destination).is_ok();
    let place = target::find(tree, &destination, is_file, matches!(&*kind, "proc" | "sysfs"))?;
    let is_proc = match &source {
        Source::Copy(copy) => fstatfs(copy).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC),
        _ => kind == "proc",
    };
    below_proc::check_place(tree, &destination, &place, is_proc)?;
    match source {
        Source::Copy(copy) => mount::attach_at(copy.as_fd(), place.as_fd()).asked(name).map(|()| None),
        Source::There => {
            change(&place, options.attributes, options.recursive)
                .asked(|| format!("remount {}", shown(&destination)))?;
            Ok(None)
        }
        Source::Cgroups => cgroup::mount(cgroups, &destination, &options, &place, label).map(|()| None),
        Source::Fresh(source) => {
            let covered = covers.then_some(&place);
            let fresh = fresh::make(&kind, &source, &options, covered, label, &destination)?;
            for (kind, below) in &options.propagation {
                propagate(&fresh.mount, *kind, *below).asked(|| format!("set the propagation of {}", name()))?;
            }
            mount::attach_at(fresh.mount.as_fd(), place.as_fd()).asked(name)?;
            fresh::label_after(&kind, tree, &destination, label)?;
            Ok(fresh.read_only_later.then_some((destination, fresh.mount)))
        }
    }
}
